"""What the machine allows: Flight that keeps nothing, and files written without Flight.

A put does both, and more: no ratio to a ceiling can reach 1 for long.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.flight as flight

from bench.data import START_US, STEP_US, TIMESTAMP_COLUMN, deal
from bench.runs import Rows, Run, check, timed_in_parallel
from timestore.datasets import Order
from timestore.names import NO_KEY
from timestore.windows import TimeWindow
from timestore_app.settings import Settings
from writers.data_file import AppendFacts, DuckDBWriter, FileRequest

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
CORES = os.cpu_count() or 1
STORAGE_VERSION = str(Settings.model_fields["duckdb_storage_version"].default)


class DroppingServer(flight.FlightServerBase):
    """Reads every batch, drops it, and says how many rows there were."""

    def do_put(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,  # noqa: ARG002
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        rows = sum(chunk.data.num_rows for chunk in reader)
        writer.write(str(rows).encode())


class FlightDrop:
    """A ``DroppingServer`` in a process of its own, for the time of a ``with``."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork of a process that runs gRPC does not work
        self._ours, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve_drops, args=(theirs,), name="flight-drop", daemon=True)
        self._url = ""

    def __enter__(self) -> Self:
        self._process.start()
        check(self._ours.poll(START_TIMEOUT_S), "the bare Flight server did not start")
        self._url = f"grpc://127.0.0.1:{self._ours.recv()}"
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._process.terminate()
        self._process.join(STOP_TIMEOUT_S)

    def run(self, data: Rows, streams: int) -> Run:
        """Send all rows over so many streams at once."""
        clients = [flight.FlightClient(self._url) for _ in range(streams)]
        try:
            for client in clients:
                client.wait_for_available()
            seconds, counts = timed_in_parallel(_send, list(zip(clients, deal(data.batches, streams), strict=True)))
        finally:
            for client in clients:
                client.close()
        check(sum(counts) == data.rows, f"the bare Flight server got {sum(counts):,} of {data.rows:,} rows")
        return Run(seconds=seconds)


class WriteCeiling:
    """Timestore's own writers, one for each core, on rows that lie in memory: the files of a put without the put."""

    def __init__(self, *, folder: Path) -> None:
        self._folder = folder
        memory_limit_bytes = Settings.load(None, {}).memory_budget // 4 // CORES  # as the server shares it out
        self._writers = [
            DuckDBWriter(
                memory_limit_bytes=memory_limit_bytes, temporary_directory=folder, storage_version=STORAGE_VERSION
            )
            for _ in range(CORES)
        ]

    def run(self, data: Rows) -> Run:
        """Write all rows into closed, fsynced and hashed files, one for each core."""
        window = TimeWindow(start_s=START_US // 1_000_000, end_s=(START_US + STEP_US * (data.rows + 1)) // 1_000_000)

        def write(job: tuple[DuckDBWriter, list[pa.RecordBatch], Path]) -> int:
            writer, batches, path = job
            return writer.write(_request(batches[0].schema, window), batches, path).rows

        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            jobs = [
                (writer, part, Path(folder) / f"{number}.duckdb")
                for number, (writer, part) in enumerate(zip(self._writers, _shares(data), strict=False))
            ]
            seconds, counts = timed_in_parallel(write, jobs)
        check(sum(counts) == data.rows, f"the writers wrote {sum(counts):,} of {data.rows:,} rows")
        return Run(seconds=seconds)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class DuckDBCeiling:
    """DuckDB alone, with none of Timestore's code: the best way known to make closed, fsynced files."""

    def __init__(self, *, folder: Path) -> None:
        self._folder = folder
        self._connections = [_connect() for _ in range(CORES)]

    def run(self, data: Rows) -> Run:
        """Write all rows into closed and fsynced files, one for each core."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            jobs = [
                (connection, pa.Table.from_batches(part), Path(folder) / f"{number}.duckdb")
                for number, (connection, part) in enumerate(zip(self._connections, _shares(data), strict=False))
            ]
            seconds, _ = timed_in_parallel(_write_bare, jobs)
            counts = [_count(connection, path) for connection, _, path in jobs]
        check(sum(counts) == data.rows, f"DuckDB wrote {sum(counts):,} of {data.rows:,} rows")
        return Run(seconds=seconds)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def _serve_drops(parent: Connection) -> None:
    server = DroppingServer("grpc://127.0.0.1:0")
    parent.send(server.port)
    server.serve()


def _send(job: tuple[flight.FlightClient, list[pa.RecordBatch]]) -> int:
    client, batches = job
    writer, answers = client.do_put(flight.FlightDescriptor.for_path("drop"), batches[0].schema)
    with writer:
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        return int(answers.read().to_pybytes())


def _shares(data: Rows) -> list[list[pa.RecordBatch]]:
    """Cut the rows into equal runs, one for each core."""
    table = pa.Table.from_batches(data.batches)
    step = -(-data.rows // CORES)
    return [table.slice(start, step).to_batches() for start in range(0, data.rows, step)]


def _request(schema: pa.Schema, window: TimeWindow) -> FileRequest:
    return FileRequest(
        file_id=uuid4(),
        dataset="bench",
        key=NO_KEY,
        window=window,
        timestamp_column=TIMESTAMP_COLUMN,
        order=Order.ORDERED,
        schema=schema,
        append=AppendFacts(append_id=uuid4(), idempotency_key="bench"),
        written_at=datetime.now(UTC),
    )


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET wal_autocheckpoint = '1KB'")
    connection.execute("SET fsync_mode = 'NONE'")  # fsynced once, below
    connection.execute("SET write_buffer_row_group_count = 1")
    return connection


def _write_bare(job: tuple[duckdb.DuckDBPyConnection, pa.Table, Path]) -> None:
    connection, table, path = job
    connection.execute(f"ATTACH '{_quoted(path)}' AS file (STORAGE_VERSION '{STORAGE_VERSION}')")
    connection.register("incoming", table)
    connection.execute("CREATE TABLE file.data AS SELECT * FROM incoming")
    connection.unregister("incoming")
    connection.execute("DETACH file")
    _fsync((path, path.parent))


def _fsync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _count(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    connection.execute(f"ATTACH '{_quoted(path)}' AS file (READ_ONLY)")
    [rows] = connection.execute("SELECT count(*) FROM file.data").fetchone() or (0,)
    connection.execute("DETACH file")
    return int(rows)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
