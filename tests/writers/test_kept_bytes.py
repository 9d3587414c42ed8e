"""What a batch keeps in memory: all of the message it came in."""

from __future__ import annotations

import pyarrow as pa

from tests.fixtures.data import cpu_table
from writers.kept_bytes import kept_bytes

BATCH = cpu_table(1_000).to_batches()[0]


def test_a_batch_that_owns_its_buffers_keeps_them() -> None:
    """What was made in this process keeps its buffers, and not much more."""
    assert BATCH.nbytes <= kept_bytes(BATCH) < BATCH.nbytes + 10_000


def test_a_slice_keeps_what_it_was_cut_from() -> None:
    """One row of a thousand keeps the thousand."""
    assert kept_bytes(BATCH.slice(500, 1)) == kept_bytes(BATCH)


def test_a_message_is_kept_whole() -> None:
    """A batch that was read from a larger message keeps the message, however little of it is the batch."""
    message = pa.py_buffer(BATCH.slice(0, 1).serialize().to_pybytes() + b"waste" * 100_000)

    read = pa.ipc.read_record_batch(message, BATCH.schema)

    assert read.nbytes < 1_000
    assert kept_bytes(read) == message.size


def test_a_batch_without_buffers_keeps_nothing() -> None:
    """No column, or columns of nulls alone: nothing is kept."""
    assert kept_bytes(pa.record_batch({"nothing": pa.nulls(10)})) == 0
    assert kept_bytes(pa.RecordBatch.from_arrays([], names=[])) == 0
