"""Memory is bounded by configuration, not by what clients send."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pyarrow as pa
import pytest

import timestore
from tests.fixtures.data import START
from tests.fixtures.memory import watched_memory
from tests.fixtures.server import ServerProcess

MIB = 1 << 20
BUDGET_BYTES = 256 * MIB
CONSTANT_BYTES = 512 * MIB  # messages that gRPC holds, what allocators keep, Python
BATCH_ROWS = 65_536
BATCHES = 90  # 14 MiB each


def _batches(days: int) -> Iterator[pa.RecordBatch]:
    """Rows in order on one day, or at random over many days."""
    random = np.random.default_rng(1)
    tags = pa.array([f"host-{number:04d}-in-a-rack" for number in range(1_000)])
    columns = {f"tag{n}": tags.take(pa.array(random.integers(0, 1_000, BATCH_ROWS))) for n in range(6)}
    columns |= {f"value{n}": pa.array(random.random(BATCH_ROWS)) for n in range(8)}
    for number in range(BATCHES):
        stamps = np.arange(BATCH_ROWS) + number * BATCH_ROWS
        if days > 1:
            stamps = random.integers(0, days * 86_400, BATCH_ROWS) * 1_000_000
        yield pa.RecordBatch.from_pydict({"ts": pa.array(START + stamps, pa.timestamp("us", "UTC")), **columns})


@pytest.mark.parametrize("days", [1, 60], ids=["one window", "many windows"])
def test_a_put_larger_than_the_budget(server_process: Callable[..., ServerProcess], days: int) -> None:
    """A put of several times the budget streams through within the budget and a constant."""
    server = server_process("--memory-budget", str(BUDGET_BYTES))
    first, *rest = _batches(days)
    data = pa.RecordBatchReader.from_batches(first.schema, iter([first, *rest]))
    with timestore.connect(server.url) as client, watched_memory(psutil.Process(server.pid)) as peak:
        receipt = client.append("cpu", data, create={"order": "ordered" if days == 1 else "any"})

    assert receipt.rows == BATCHES * BATCH_ROWS
    assert receipt.bytes > 4 * BUDGET_BYTES
    assert peak() < BUDGET_BYTES + CONSTANT_BYTES
