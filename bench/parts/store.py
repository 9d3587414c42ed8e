"""Store: one load to an object store, near and behind a slow line, against the disk and against the upload alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import timestore
from bench.contenders import TIMESTORE, Contender
from bench.contenders.raw_upload import RawUpload
from bench.contenders.timestore_put import TimestorePut
from bench.data import SHAPES
from bench.load import Load, Rows
from bench.measuring import AbsentError
from bench.object_store import BUCKET, ObjectStore, SlowLine, running_store
from bench.results import Absence
from bench.server import Server
from bench.session import Session, in_turns

PART = "store"
SHAPE = "plain"

DISK = "the disk"
NEAR = "a store on this machine"


def measure_store(session: Session) -> None:
    """Let the puts and the uploads take turns."""
    plan = session.plan
    shape = SHAPES[SHAPE]
    load = Load(rows=Rows.make(shape, shape.rows_of(plan.bulk_bytes)))
    line_name = f"a line of {plan.line_bytes_per_s / 1e6:g} MB/s"
    session.tell(f"store, {SHAPE}: {load.rows.rows:,} rows, {load.rows.bytes / 1e6:,.0f} MB; to {NEAR}, {line_name}")
    with ExitStack() as stack:
        try:
            store = stack.enter_context(running_store(session.new_folder()))
        except AbsentError as exc:
            session.tell(f"  without: {exc}")
            session.recorder.leave_out(Absence(part=PART, contender=TIMESTORE, shape=SHAPE, reason=str(exc)))
            return
        line = stack.enter_context(closing(SlowLine(target=store.port, bytes_per_s=session.plan.line_bytes_per_s)))
        disk = stack.enter_context(session.server())
        contenders: list[tuple[str, Contender]] = [(DISK, TimestorePut(disk))]
        for name, port in ((NEAR, store.port), (line_name, line.port)):
            server = stack.enter_context(_server(session, port, name))
            contenders.append((name, TimestorePut(server, read=partial(_stored, server, store))))
            contenders.append((name, RawUpload(filesystem=store.filesystem(port), files=partial(_newest, disk))))
        _take_turns(session, load, contenders, lambda: store.cpu_s)


def _take_turns(
    session: Session, load: Load, contenders: list[tuple[str, Contender]], store_cpu_s: Callable[[], float]
) -> None:
    def take(name: str, contender: Contender, number: int) -> None:
        before = store_cpu_s()
        figures = {**contender.run(load), "store_cpu_s": store_cpu_s() - before}
        if number:
            labels = {"shape": SHAPE, "to": name}
            session.recorder.add(PART, contender.name, labels, figures, rows=load.rows.rows, size=load.rows.bytes)

    for _, contender in contenders:
        session.recorder.durability[contender.name] = contender.durability
    take(*contenders[0], 0)  # makes the files that are uploaded
    for number in session.rounds():
        in_turns(number, [partial(take, name, contender, number) for name, contender in contenders])


def _server(session: Session, port: int, name: str) -> Any:
    """Run a server whose files go to the store by this way."""
    folder = name.replace(" ", "-").replace("/", "-")
    where = ("--storage-url", f"s3://{BUCKET}/{folder}", *session.plan.serve_arguments)
    return Server(
        data_dir=session.new_folder() / "server",
        arguments=where,
        environment={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"},
    )


def _newest(disk: Server) -> list[Path]:
    """Return the files of the newest dataset on the disk."""
    newest = max(disk.data.rglob("*.duckdb"), key=lambda path: path.stat().st_mtime)
    return sorted((disk.data / newest.relative_to(disk.data).parts[0]).rglob("*.duckdb"))


def _stored(server: Server, store: ObjectStore, dataset: str) -> Iterator[pa.RecordBatch]:
    """Read a dataset from its files in the store, by a DuckDB of our own."""
    filesystem = store.filesystem(store.port)
    with timestore.connect(server.url) as client:
        manifest = client.manifest(dataset)
    for item in manifest:
        with tempfile.TemporaryDirectory() as folder, duckdb.connect(":memory:") as connection:
            copy = Path(folder, "copy.duckdb")
            filesystem.get_file(item["uri"].removeprefix("s3://"), str(copy))
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"ATTACH '{copy}' AS file (READ_ONLY)")
            yield from connection.sql("FROM file.data").to_arrow_table().to_batches()
