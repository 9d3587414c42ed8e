"""Who has what to write: the last rows of a put are shared out so that all writers end together."""

from __future__ import annotations

import pyarrow as pa
import pytest

from timestore.windows import TimeWindow
from writers.chunks import LAST_CHUNK_ROWS, Chunk, Part
from writers.spill import Segment
from writers.writer_load import WriterLoad

ROW_BYTES = 100
ROWS = 1_000_000


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _chunk(rows: int) -> Chunk:
    batch = pa.record_batch({"row": pa.nulls(rows)})
    segment = Segment(batch=batch, bytes=rows * ROW_BYTES, total_rows=rows, rows_left=rows)
    return Chunk(sequence=1, window=TimeWindow(start_s=0, end_s=10), parts=(Part(segment, 0, rows),))


@pytest.fixture(name="clock")
def _clock() -> _Clock:
    return _Clock()


@pytest.fixture(name="load")
def _load(clock: _Clock) -> WriterLoad:
    """Two writers, which were seen to write a row in a microsecond."""
    load = WriterLoad(writers=2, clock=clock)
    seen = _chunk(ROWS)
    load.begin(seen)
    clock.now += 1.0
    load.end(seen)
    return load


def test_idle_writers_are_those_without_a_chunk(load: WriterLoad) -> None:
    """A writer has work from the moment a chunk leaves for it until it is given back; so do queued chunks count."""
    chunks = [_chunk(10), _chunk(20), _chunk(30)]
    for chunk, is_idle in zip(chunks, (True, False, False), strict=True):
        load.begin(chunk)
        assert load.has_idle_writers == is_idle
    assert load.bytes == 60 * ROW_BYTES
    for chunk, is_idle in zip(chunks, (False, True, True), strict=True):
        load.end(chunk)
        assert load.has_idle_writers == is_idle
    assert load.bytes == 0


def test_idle_writers_get_equal_shares(load: WriterLoad) -> None:
    """Nobody has anything to do: everybody gets the same."""
    assert load.shares(ROWS, ROWS * ROW_BYTES) == [ROWS // 2, ROWS // 2]


def test_a_busy_writer_gets_less(load: WriterLoad, clock: _Clock) -> None:
    """One with 0.2 s to go gets as many rows less as it writes in that time; the largest part comes first."""
    load.begin(_chunk(300_000))
    clock.now += 0.1
    assert load.shares(ROWS, ROWS * ROW_BYTES) == [600_000, 400_000]


def test_a_writer_that_should_be_done_by_now_counts_as_idle(load: WriterLoad, clock: _Clock) -> None:
    """An estimate is never less than nothing."""
    load.begin(_chunk(300_000))
    clock.now += 5.0
    assert load.shares(ROWS, ROWS * ROW_BYTES) == [ROWS // 2, ROWS // 2]


def test_a_writer_that_is_busy_for_longer_gets_nothing(load: WriterLoad) -> None:
    """Nor does one for which less than a file is left that is worth its while."""
    load.begin(_chunk(ROWS))
    assert load.shares(ROWS // 2, ROWS // 2 * ROW_BYTES) == [ROWS // 2]
    assert load.shares(ROWS + LAST_CHUNK_ROWS, (ROWS + LAST_CHUNK_ROWS) * ROW_BYTES) == [ROWS + LAST_CHUNK_ROWS]


def test_as_long_as_no_speed_is_known_half_is_left() -> None:
    """The first chunks of a server are on average half written."""
    load = WriterLoad(writers=2)
    load.begin(_chunk(400_000))
    assert load.shares(ROWS, ROWS * ROW_BYTES) == [600_000, 400_000]


def test_queued_chunks_count(load: WriterLoad) -> None:
    """Of three chunks for two writers, the small ones are for whoever has the least to do."""
    for rows in (500_000, 100_000, 200_000):
        load.begin(_chunk(rows))
    assert load.shares(ROWS, ROWS * ROW_BYTES) == [600_000, 400_000]


def test_there_is_always_a_share(load: WriterLoad) -> None:
    """Whoever cuts need not ask whether there is anything to cut."""
    assert sum(load.shares(0, 0)) == 0
    assert load.shares(0, 0)
