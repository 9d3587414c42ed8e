"""A client in a process of its own, for trials: does one thing, once, and prints what became of it as JSON.

python -m tests.chaos.client URL good|unordered|abandon|drop|expire|retention|add STORAGE TRAP
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

import timestore
from storage.opening import open_store
from tests.fixtures.data import START
from tests.fixtures.raw_put import RawPut, command, typed
from tests.fixtures.server import wait_until
from timestore.errors import TimestoreError

DATASET, KEY, IDEMPOTENCY_KEY = "chaos", {"region": "eu"}, "a"
OTHER_DATASET, ABANDONED_KEY, ARCHIVE = "other", "given-up", "archive"
ROWS = 300_000  # over two days: one file is written before the stream ends, two after


def good_rows(storage: str) -> pa.Table:
    """What the append holds. What goes to an object store is large enough to go in parts."""
    stamps = START + np.arange(ROWS, dtype=np.int64) * 300_000
    noise = np.random.default_rng(1).integers(0, 1 << 62, (4 if "://" in storage else 0, ROWS))
    columns = {"value": np.arange(ROWS, dtype=np.int64), **{f"noise{n}": each for n, each in enumerate(noise)}}
    return pa.table({"ts": pa.array(stamps, pa.timestamp("us", "UTC")), **columns})


def unordered_rows(storage: str) -> pa.Table:
    """The same, but the last row is the oldest: refused when files are written already."""
    rows = good_rows(storage)
    return pa.concat_tables([rows.slice(1), rows.slice(0, 1)])


def send(url: str, rows: pa.Table, *, storage: str, trap: Path) -> dict[str, object]:
    """Send one put and return its receipt, or ``{"type": "error", "kind": ...}``.

    Its last row is sent when a file of the rows before is published, or the trap has sprung.
    """
    try:
        put = RawPut(url, command(dataset=DATASET, key=KEY, idempotency_key=IDEMPOTENCY_KEY), rows.schema)
        put.send(rows.slice(0, rows.num_rows - 1))
        store = open_store(storage)
        wait_until(lambda: (trap / "sprung").exists() or any(store.list(f"{DATASET}/region=eu/")))
        put.send(rows.slice(rows.num_rows - 1))
        put.mark_end(rows.num_rows)
        return put.finish()
    except TimestoreError as failure:
        return {"type": "error", "kind": failure.kind}
    except (flight.FlightError, pa.ArrowException, AssertionError) as exc:
        kind = typed(exc).kind if isinstance(exc, flight.FlightError) and exc.extra_info else "unreachable"
        return {"type": "error", "kind": kind}


def act(url: str, what: str, *, storage: Path) -> dict[str, object]:
    """Run one action and return ``{"type": what}``, or an error."""
    calls: dict[str, Callable[[timestore.Client], object]] = {
        "add": lambda client: client.add_storage(ARCHIVE, str(storage.with_name(ARCHIVE))),
        "abandon": lambda client: client.abandon(DATASET, ABANDONED_KEY),
        "drop": lambda client: client.drop_dataset(OTHER_DATASET, confirm=OTHER_DATASET),
        "expire": lambda client: client.expire(OTHER_DATASET),
        "retention": lambda client: client.set_retention(OTHER_DATASET, "9d"),
    }
    try:
        with timestore.connect(url, retries=False) as client:
            calls[what](client)
            return {"type": what}
    except TimestoreError as failure:
        return {"type": "error", "kind": failure.kind}


def main(url: str, what: str, storage: str, trap: str) -> None:
    """Do it, and print what became of it."""
    puts = {"good": good_rows, "unordered": unordered_rows}
    told = (
        send(url, puts[what](storage), storage=storage, trap=Path(trap))
        if what in puts
        else act(url, what, storage=Path(storage))
    )
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
