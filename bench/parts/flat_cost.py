"""Flat cost: whether a commit and a manifest care how many files there are already.

Two catalogs, one with few files and one with many. The files are rows only, published through the server's own
``Ledger``; what is timed is its commit, and a real server's answer to ``manifest``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from uuid import uuid4

import psycopg
import pyarrow as pa
import pyarrow.flight as flight
from psycopg import sql

from bench.data import DAY_US, START_US
from bench.measuring import check
from bench.session import Session
from catalog.connections import Connections
from catalog.ledger import Ledger
from catalog.migrate import migrate
from catalog.records import CommitPlan, Intent, NewAppend, NewSlice, Outcome
from timestore.datasets import DatasetSpec
from timestore.identifiers import uuid7
from timestore.names import PartitionKey
from timestore.windows import TimeWindow, WindowLength, format_instant

PART = "flat"
COMMIT = "commit"
MANIFEST = "first page of a manifest"

DATASET = "flat"
KEY_NAME = "site"
KEYS = 100  # of the larger catalog; its files are spread evenly over keys and days
FIRST_DAY_S = START_US // 1_000_000
DAY_S = DAY_US // 1_000_000
QUERY_DAYS = 100
SCHEMA = pa.schema([pa.field("ts", pa.timestamp("us", "UTC"), nullable=False), pa.field("value", pa.float64())])
TIMEOUT_S = 60.0


@dataclass(slots=True, kw_only=True)
class FilledCatalog:
    """A catalog that lists files which nobody ever wrote."""

    ledger: Ledger
    schema: str
    spec: DatasetSpec = field(
        default_factory=lambda: DatasetSpec(
            name=DATASET, incarnation=uuid4(), timestamp_column="ts", window=WindowLength.parse("1d")
        )
    )
    is_new: bool = True

    def fill(self, files: int) -> None:
        """Publish so many files: one append for each key, which has a file for each day."""
        keys = min(KEYS, max(1, files // 10))
        for key in range(keys):
            check(self.commit(key, days=range(files // keys)) is not None, "the catalog could not be filled")

    def commit(self, key: int, days: range) -> float:
        """Publish one append with a file for each day, and return the seconds of the commit alone."""
        slices = tuple(_file(PartitionKey.parse({KEY_NAME: str(key)}), day) for day in days)
        self.ledger.record_intents(
            [Intent(holder_id=new.holder_id, storage=new.storage, path=new.path) for new in slices]
        )
        plan = CommitPlan(
            spec=self.spec,
            create=self.is_new,
            schema_version=0 if self.is_new else 1,
            new_schema=SCHEMA if self.is_new else None,
            key_names=(KEY_NAME,),
        )
        append = _append(key, slices)
        started = time.perf_counter()
        [outcome] = self.ledger.commit(plan, [append], deadline=time.monotonic() + TIMEOUT_S)
        seconds = time.perf_counter() - started
        check(outcome.outcome is Outcome.COMMITTED, f"the commit ended as {outcome.outcome}")
        self.is_new = False
        return seconds


def measure_flat_cost(session: Session) -> None:
    """Commit into both catalogs in turn, and ask a server on the larger one."""
    plan = session.plan
    session.tell(f"flat: catalogs with {plan.few_files:,} and {plan.many_files:,} files")
    with ExitStack() as stack:
        catalogs = {files: stack.enter_context(_catalog(session, files)) for files in (plan.few_files, plan.many_files)}
        schema = catalogs[plan.many_files].schema
        server = stack.enter_context(session.server("--catalog-dsn", session.postgres.dsn, "--catalog-schema", schema))
        client = stack.enter_context(flight.FlightClient(server.url))
        for number in session.rounds():
            times: dict[int, list[float]] = {files: [] for files in catalogs}
            for _ in range(plan.commits):
                for files, catalog in catalogs.items():
                    times[files].append(catalog.commit(0, days=range(1)))
            pages = [_first_page_s(client, plan.many_files) for _ in range(plan.commits)]
            if number:
                for files, seconds in times.items():
                    session.recorder.add(PART, COMMIT, {"files": str(files)}, {"p50_ms": 1e3 * median(seconds)})
                figures = {"p50_ms": 1e3 * median(pages), "max_ms": 1e3 * max(pages)}
                session.recorder.add(PART, MANIFEST, {"files": str(plan.many_files)}, figures)


@contextmanager
def _catalog(session: Session, files: int) -> Iterator[FilledCatalog]:
    schema = f"flat_{uuid4().hex}"
    migrate(session.postgres.dsn, schema)
    with Connections(dsn=lambda: session.postgres.dsn, schema=schema) as connections:
        connections.open(timeout_s=TIMEOUT_S)
        ledger = Ledger(connections=connections, run_id=uuid4())
        ledger.start_lease(address="bench", software_version="bench", lease_s=24 * 3600)
        catalog = FilledCatalog(ledger=ledger, schema=schema)
        catalog.fill(files)
        _settle(session.postgres.dsn, schema)
        yield catalog
        ledger.end_lease()


def _settle(dsn: str, schema: str) -> None:
    """Bring a catalog that was filled in seconds to the state of one that grew in months."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]).fetchall()
        for [table] in tables:
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(schema, table)))
        connection.execute("CHECKPOINT")


def _first_page_s(client: flight.FlightClient, files: int) -> float:
    """Ask for one key and a range of days; return the seconds until the first page was here."""
    key, days = "1", min(QUERY_DAYS, files // KEYS)
    first = datetime.fromtimestamp(FIRST_DAY_S, UTC)
    query = {
        "v": 1,
        "dataset": DATASET,
        "key": {KEY_NAME: key},
        "from": format_instant(first),
        "to": format_instant(first + timedelta(days=days)),
    }
    started = time.perf_counter()
    pages = client.do_action(flight.Action("manifest", json.dumps(query).encode()))
    items = json.loads(next(iter(pages)).body.to_pybytes())["items"]
    seconds = time.perf_counter() - started
    found = {item["key"][KEY_NAME] for item in items}
    check(
        len(items) == days and found == {key}, f"the manifest lists {len(items)} files of {found}, not {days} of {key}"
    )
    return seconds


def _file(key: PartitionKey, day: int) -> NewSlice:
    holder_id = uuid7()
    start_s = FIRST_DAY_S + day * DAY_S
    return NewSlice(
        storage="default",
        holder_id=holder_id,
        path=f"flat/{holder_id}.duckdb",
        bytes=1_000_000,
        checksum="xxh3:0",
        key=key,
        window=TimeWindow(start_s=start_s, end_s=start_s + DAY_S),
        rows=1_000,
        min_ts_ns=start_s * 1_000_000_000,
        max_ts_ns=(start_s + DAY_S - 1) * 1_000_000_000,
        digest="d1:0",
    )


def _append(key: int, slices: tuple[NewSlice, ...]) -> NewAppend:
    """Publish with a receipt as a put has one, of the files it lists at most."""
    append_id = uuid7()
    rows = sum(new.rows for new in slices)
    receipt = {
        "type": "receipt",
        "v": 1,
        "dataset": DATASET,
        "key": {KEY_NAME: str(key)},
        "append_id": str(append_id),
        "idempotency_key": str(append_id),
        "fingerprint": "f1:0",
        "rows": rows,
        "bytes": 0,
        "landing": "file",
        "files": [],
        "files_total": len(slices),
        "timings_ms": {},
        "replayed": False,
    }
    return NewAppend(
        append_id=append_id,
        idempotency_key=str(append_id),
        fingerprint="f1:0",
        rows=rows,
        bytes=0,
        principal=None,
        receipt=receipt,
        slices=slices,
    )
