"""Puts of 1000 rows: one client alone, many at once, and what Postgres can commit."""

from __future__ import annotations

import time
from functools import partial
from itertools import count
from statistics import median, quantiles

import psycopg
import pyarrow as pa

import timestore
from bench.contenders import POSTGRES_COMMITS, TIMESTORE
from bench.data import SHAPES, TIMESTAMP_COLUMN
from bench.measuring import Figures, check, timed_in_parallel
from bench.row_digest import RowDigest
from bench.server import Server
from bench.session import Session, in_turns
from bench.verify import read_batches

PART = "puts"
ROWS = 1_000
POSTGRES_CLIENTS = 8
_INSERT = "INSERT INTO bench_commits (at) VALUES (clock_timestamp())"


def measure_puts(session: Session) -> None:
    """Let one client, many clients and bare commits take turns."""
    plan = session.plan
    session.tell(f"puts of {ROWS:,} rows: one client, {plan.clients} clients")
    batch = next(SHAPES["plain"].batches(ROWS))
    with psycopg.connect(session.postgres.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_commits (at timestamptz NOT NULL)")
    with session.server() as server:
        names = count(1)
        for number in session.rounds():
            turns = [
                partial(_take_puts, session, server, batch, clients, f"puts_{next(names)}", number)
                for clients in (1, plan.clients)
            ]
            turns += [partial(_take_commits, session, clients, number) for clients in (1, POSTGRES_CLIENTS)]
            in_turns(number, turns)


def _take_puts(
    session: Session, server: Server, batch: pa.RecordBatch, clients: int, dataset: str, number: int
) -> None:
    """Put one after the other from each client, and compare all of it."""
    each = max(1, session.plan.lone_puts // (1 if clients == 1 else 4))
    connected = [timestore.connect(server.url) for _ in range(clients)]
    try:
        for client in connected:
            client.create_dataset(dataset, batch.schema, timestamp_column=TIMESTAMP_COLUMN)  # also connects
        seconds, times = timed_in_parallel(partial(_put_repeatedly, dataset, batch, each), connected)
    finally:
        for client in connected:
            client.close()
    expected = RowDigest.of([batch], batch.schema.names).times(each * clients)
    found = RowDigest.of(read_batches(server.url, dataset), batch.schema.names)
    check(found == expected, f"{clients} clients: read back {found}; sent {expected}")
    if number:
        figures = _figures(seconds, [spent for one in times for spent in one])
        session.recorder.add(PART, TIMESTORE, {"clients": str(clients)}, figures, rows=ROWS, size=batch.nbytes)


def _put_repeatedly(dataset: str, batch: pa.RecordBatch, puts: int, client: timestore.Client) -> list[float]:
    times = []
    for _ in range(puts):
        started = time.perf_counter()
        client.append(dataset, batch, landing="file")
        times.append(time.perf_counter() - started)
    return times


def _take_commits(session: Session, clients: int, number: int) -> None:
    connections = [psycopg.connect(session.postgres.dsn, autocommit=True) for _ in range(clients)]
    try:
        seconds, times = timed_in_parallel(partial(_commit_repeatedly, session.plan.lone_puts), connections)
    finally:
        for connection in connections:
            connection.close()
    if number:
        figures = _figures(seconds, [spent for one in times for spent in one])
        session.recorder.add(PART, POSTGRES_COMMITS, {"clients": str(clients)}, figures)


def _commit_repeatedly(commits: int, connection: psycopg.Connection) -> list[float]:
    times = []
    for _ in range(commits):
        started = time.perf_counter()
        connection.execute(_INSERT)
        times.append(time.perf_counter() - started)
    return times


def _figures(seconds: float, times: list[float]) -> Figures:
    p99 = quantiles(times, n=100)[98] if len(times) > 1 else times[0]
    return {"per_s": len(times) / seconds, "p50_ms": 1e3 * median(times), "p99_ms": 1e3 * p99}
