"""The memory budget: nothing lost, nothing reordered, nobody stuck, and every byte given back."""

from __future__ import annotations

import mmap
import queue
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timestore.windows import TimeWindow
from writers.buffers import FIRST_CHUNK_ROWS, LARGEST_CHUNK_ROWS, ROW_GROUP, Budget, Chunk, PutBuffer
from writers.routing import RoutedBatch, RoutedPiece
from writers.spill import SpillFile

WINDOWS = [TimeWindow(start_s=start, end_s=start + 10) for start in (0, 10, 20)]
NO_LIMIT = 1 << 60

Jobs = queue.Queue[tuple[PutBuffer, Chunk] | None]


def _size(rows: int) -> int:
    return rows * 8


def _routed(first: int, counts: Sequence[int]) -> RoutedBatch:
    """Make a batch of numbered rows: so many for each window, zero for none."""
    rows = np.arange(first, first + sum(counts), dtype=np.int64)
    pieces, start = [], 0
    for window, count in zip(WINDOWS, counts, strict=False):
        if count:
            pieces.append(RoutedPiece(window=window, start=start, rows=count))
        start += count
    return RoutedBatch(batch=pa.record_batch({"row": pa.array(rows)}), pieces=pieces)


class _Put:
    """A put as the server drives it, with everything that left its buffer."""

    def __init__(
        self, budget: Budget, chunk_bytes: int = NO_LIMIT, writers: Jobs | None = None, spill: SpillFile | None = None
    ) -> None:
        self._budget = budget
        self._writers = writers
        self._spill = spill
        self.chunks: list[Chunk] = []
        self.early = 0  # chunks that came before the end
        self.spilled_rows: list[int] = []  # of each batch that was spilled
        self.sent: dict[TimeWindow, list[int]] = defaultdict(list)
        self.rows = 0
        self.buffer = budget.open_buffer(chunk_bytes=chunk_bytes, owner=self)

    def dispatch(self, chunks: Sequence[Chunk]) -> None:
        self.chunks += chunks
        if self._writers is not None:
            for chunk in chunks:
                self._writers.put((self.buffer, chunk))

    def spill(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, mmap.mmap] | None:
        self.spilled_rows.append(batch.num_rows)
        return self._spill.write(batch) if self._spill is not None else None

    def send(self, *counts: int, guess: int = 0) -> None:
        """Reserve, read, correct the reservation, buffer: the way of every batch."""
        self._budget.reserve(self.buffer, guess)
        routed = _routed(self.rows, counts)
        size = routed.batch.nbytes
        self._budget.adjust(self.buffer, size - guess)
        for piece in routed.pieces:
            first = self.rows + piece.start
            self.sent[piece.window] += range(first, first + piece.rows)
        self.rows += sum(counts)
        self.buffer.add(routed, size)

    def finish(self) -> None:
        self.early = len(self.chunks)
        self.dispatch(self.buffer.take_rest())

    def written(self) -> dict[TimeWindow, list[int]]:
        """Return the rows of all chunks by window, the chunks in their order."""
        rows: dict[TimeWindow, list[int]] = defaultdict(list)
        for chunk in sorted(self.chunks, key=lambda chunk: chunk.sequence):
            assert chunk.rows == sum(part.rows for part in chunk.parts) > 0
            for part in chunk.parts:
                rows[chunk.window] += part.segment.batch.slice(part.start, part.rows).column("row").to_pylist()
        return rows


@contextmanager
def _writing(budget: Budget) -> Iterator[Jobs]:
    """Run a writer thread that releases every chunk it is given."""
    jobs: Jobs = queue.Queue()

    def write() -> None:
        while (job := jobs.get()) is not None:
            budget.release(*job)

    writer = threading.Thread(target=write, name="test-writer")
    writer.start()
    try:
        yield jobs
    finally:
        jobs.put(None)
        writer.join()


@pytest.fixture(name="spill")
def _spill(tmp_path: Path) -> Iterator[SpillFile]:
    spill = SpillFile(path=tmp_path / "put.arrow")
    yield spill
    spill.close()


ROWS = st.sampled_from([0, 1, 7, 1_000, 8_192, 61_440, ROW_GROUP - 1, ROW_GROUP, ROW_GROUP + 1, 3 * ROW_GROUP + 5])
COUNTS = st.tuples(ROWS, ROWS, ROWS).filter(any)
STEPS = st.lists(st.tuples(st.integers(0, 2), COUNTS, st.sampled_from([0, 8, 1 << 16])), max_size=15)


@settings(deadline=None, max_examples=30)
@given(
    steps=STEPS,
    limit_bytes=st.sampled_from([64, 1 << 16, 1 << 20, 1 << 22, NO_LIMIT]),
    chunk_bytes=st.sampled_from([1, 1 << 18, 1 << 21, NO_LIMIT]),
)
def test_puts_that_share_a_budget(
    steps: list[tuple[int, tuple[int, int, int], int]], limit_bytes: int, chunk_bytes: int
) -> None:
    """For any interleaving, limit and chunk size: no row lost, doubled or moved, and the budget is empty at the end."""
    budget = Budget(limit_bytes=limit_bytes)
    with tempfile.TemporaryDirectory() as directory, _writing(budget) as writers:
        spills = [SpillFile(path=Path(directory, f"{number}.arrow")) for number in range(3)]
        puts = [_Put(budget, chunk_bytes, writers, spill) for spill in spills]
        for number, counts, guess in steps:
            puts[number].send(*counts, guess=guess)
        for put in puts:
            put.finish()
            put.buffer.wait_until_written()
            assert put.buffer.resident_bytes == put.buffer.leaving == 0
        assert budget.used_bytes == sum(put.buffer.reserved_bytes for put in puts)
        for put, spill in zip(puts, spills, strict=True):
            budget.close_buffer(put.buffer)
            assert put.written() == put.sent
            spill.close()
    assert budget.used_bytes == budget.with_writers_bytes == 0
    for put in puts:
        assert sorted(chunk.sequence for chunk in put.chunks) == list(range(1, len(put.chunks) + 1))


@settings(deadline=None, max_examples=25)
@given(counts=st.lists(ROWS.filter(bool), min_size=1, max_size=20))
def test_early_files_are_whole_row_groups(counts: list[int]) -> None:
    """A partition that fills up is cut into files of whole row groups; only the last file of a put is not."""
    put = _Put(Budget(limit_bytes=NO_LIMIT))
    for count in counts:
        put.send(count)
    put.finish()
    assert {chunk.rows % ROW_GROUP for chunk in put.chunks[: put.early]} <= {0}
    assert all(FIRST_CHUNK_ROWS <= chunk.rows <= LARGEST_CHUNK_ROWS for chunk in put.chunks[: put.early])
    assert put.written() == put.sent


def test_files_grow_with_a_put() -> None:
    """The first files are small so that every writer has work soon; a long put makes larger ones, up to a limit."""
    put = _Put(Budget(limit_bytes=NO_LIMIT))
    for _ in range(140):
        put.send(ROW_GROUP)
    sizes = [chunk.rows for chunk in put.chunks]
    assert sizes[0] == FIRST_CHUNK_ROWS
    assert sizes == sorted(sizes)
    assert sizes[-1] == LARGEST_CHUNK_ROWS


def test_wide_rows_are_cut_by_bytes() -> None:
    """A partition of few, wide rows is handed over at its bytes, with whatever rows it has."""
    put = _Put(Budget(limit_bytes=NO_LIMIT), chunk_bytes=_size(1_000))
    put.send(999)
    assert not put.chunks
    put.send(1)
    assert [chunk.rows for chunk in put.chunks] == [1_000]


def test_the_rest_comes_oldest_window_first() -> None:
    """At the end of a put its windows are taken in the order of time, each whole."""
    put = _Put(Budget(limit_bytes=NO_LIMIT))
    put.send(0, 0, 3)
    put.send(3)
    put.send(3, 3)
    put.finish()
    assert [(chunk.window, chunk.rows) for chunk in put.chunks] == [(WINDOWS[0], 6), (WINDOWS[1], 3), (WINDOWS[2], 3)]
    assert not put.buffer.take_rest()


def test_room_is_made_from_the_largest_buffer_of_any_put(spill: SpillFile) -> None:
    """A stream that needs room gets it from whoever holds most, oldest batch first, and no more than is needed."""
    budget = Budget(limit_bytes=_size(1_000))
    small, large = _Put(budget), _Put(budget, spill=spill)
    small.send(100)
    large.send(300)
    large.send(0, 500)
    budget.reserve(small.buffer, _size(200))
    assert (large.spilled_rows, small.spilled_rows) == ([300], [])
    assert budget.used_bytes == _size(800)
    budget.reserve(small.buffer, _size(400))
    assert (large.spilled_rows, small.spilled_rows) == ([300, 500], [])
    assert budget.used_bytes == _size(700)
    large.finish()
    assert large.written() == large.sent


def test_spilled_rows_keep_their_place(spill: SpillFile) -> None:
    """Rows that were spilled come before what came after them, in the same file."""
    budget = Budget(limit_bytes=_size(100))
    put, other = _Put(budget, spill=spill), _Put(budget)
    other.send(1)
    for _ in range(3):
        put.send(30, 30)
        budget.reserve(other.buffer, _size(50))
        budget.adjust(other.buffer, -_size(50))
    put.send(5)
    put.finish()
    assert put.spilled_rows == [60, 60, 60]
    assert [chunk.rows for chunk in put.chunks] == [95, 90]
    assert put.written() == put.sent


def test_a_batch_counts_until_its_last_row_is_written() -> None:
    """However few rows of a batch are left, they keep all of it in memory, and the budget knows."""
    budget = Budget(limit_bytes=NO_LIMIT)
    put = _Put(budget)
    put.send(10, 20, 30)
    put.finish()
    for left, chunk in zip((60, 60, 0), put.chunks, strict=True):
        budget.release(put.buffer, chunk)
        assert budget.used_bytes == _size(left)


@pytest.mark.parametrize("limit_bytes", [0, 100])
def test_a_stream_with_nothing_buffered_never_waits(limit_bytes: int) -> None:
    """What a stream may always hold needs nobody's leave: so every stream moves on, however full the budget is."""
    budget = Budget(limit_bytes=limit_bytes)
    full, other = _Put(budget), _Put(budget)
    full.send(1_000)
    budget.reserve(other.buffer, 1 << 30)
    assert other.buffer.reserved_bytes == 1 << 30
    assert not full.chunks
    assert not full.spilled_rows


def test_a_stream_waits_for_busy_writers() -> None:
    """A stream whose rows are with the writers is not read until they have made room, and goes on then."""
    budget = Budget(limit_bytes=_size(1_000))
    put = _Put(budget, chunk_bytes=1)
    put.send(900)
    [chunk] = put.chunks
    waiting = threading.Thread(target=budget.reserve, args=(put.buffer, _size(500)))
    waiting.start()
    waiting.join(timeout=0.05)
    assert waiting.is_alive()
    assert put.buffer.reserved_bytes == 0
    budget.release(put.buffer, chunk)
    waiting.join(timeout=30)
    assert put.buffer.reserved_bytes == budget.used_bytes == _size(500)
    assert not put.spilled_rows


def test_a_spill_that_failed_does_not_hold_up_others() -> None:
    """A put whose rows the disk did not take has failed: its memory is given back once, and the next stream goes on."""
    budget = Budget(limit_bytes=_size(100))
    put, other = _Put(budget), _Put(budget)  # without a spill file every spill fails
    put.send(90)
    other.send(1)
    budget.reserve(other.buffer, _size(50))
    assert put.spilled_rows == [90]
    assert budget.used_bytes == _size(51)
    put.buffer.wait_until_written()
    budget.close_buffer(put.buffer)
    assert budget.used_bytes == _size(51)


def test_a_failed_put_drops_all_but_what_the_writers_have() -> None:
    """Rows of a put that has failed leave memory at once; a batch of which a writer has rows, when it is done."""
    budget = Budget(limit_bytes=NO_LIMIT)
    put = _Put(budget, chunk_bytes=_size(100))
    put.send(50)
    put.send(0, 100, 20)  # the second window is due: its batch is with the writers
    [chunk] = put.chunks
    put.buffer.discard()
    assert budget.used_bytes == _size(120)
    assert put.buffer.take_rest() == []
    budget.release(put.buffer, chunk)
    budget.close_buffer(put.buffer)
    assert budget.used_bytes == budget.with_writers_bytes == 0


def test_closing_gives_back_what_a_put_still_holds() -> None:
    """A put that failed gives back its reservation and its buffered rows, and nobody takes from it any more."""
    budget = Budget(limit_bytes=_size(1_000))
    failed, other = _Put(budget), _Put(budget)
    failed.send(500)
    budget.reserve(failed.buffer, 123)
    budget.close_buffer(failed.buffer)
    assert budget.used_bytes == 0
    other.send(900)
    budget.reserve(other.buffer, _size(100))
    assert not failed.spilled_rows


class _ClosingPut(_Put):
    """A put that closes its buffer at the worst moment: while another put spills its rows."""

    def spill(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, mmap.mmap] | None:
        self._budget.close_buffer(self.buffer)
        return super().spill(batch)


def test_a_put_that_closes_while_another_spills_its_rows(spill: SpillFile) -> None:
    """Rows that another put moves to disk at the last moment are given back once, not twice."""
    budget = Budget(limit_bytes=_size(1_000))
    failed, other = _ClosingPut(budget, spill=spill), _Put(budget)
    failed.send(900)
    other.send(10)
    budget.reserve(other.buffer, _size(500))
    assert failed.spilled_rows == [900]
    assert budget.used_bytes == _size(510)
    assert failed.buffer.leaving == 0
    budget.close_buffer(other.buffer)
    assert budget.used_bytes == 0
