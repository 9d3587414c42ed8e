"""Start: how long after a clean stop a server says that it can take puts."""

from __future__ import annotations

import time

import pyarrow as pa

import timestore
from bench.contenders import TIMESTORE
from bench.data import SHAPES, TIMESTAMP_COLUMN
from bench.measuring import check
from bench.server import Server
from bench.session import Session

PART = "start"
DATASET = "start"


def measure_start(session: Session) -> None:
    """Start the same server again and again; it keeps what it stored."""
    session.tell("start: after a clean stop")
    data_dir = session.new_folder() / "server"
    rows = pa.Table.from_batches(SHAPES["plain"].batches(1_000))
    server = Server(data_dir=data_dir, arguments=session.plan.serve_arguments)
    with server, timestore.connect(server.url) as client:
        client.append(DATASET, rows, create={"timestamp_column": TIMESTAMP_COLUMN})
    for number in session.rounds():
        started = time.perf_counter()
        with server, timestore.connect(server.url) as client:
            status = client.health()["status"]
            seconds = time.perf_counter() - started
            found = client.read(DATASET).num_rows
        check(status == "ok" and found == len(rows), f"after a start health is {status!r}, and {found} rows are there")
        if number:
            session.recorder.add(PART, TIMESTORE, {}, {"seconds": seconds})
