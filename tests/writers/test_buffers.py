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
from writers.buffers import (
    AHEAD_BYTES,
    FIRST_CHUNK_BYTES,
    FIRST_CHUNK_ROWS,
    LARGEST_CHUNK_ROWS,
    Budget,
    PutBuffer,
)
from writers.chunks import LAST_CHUNK_ROWS, ROW_GROUP, Chunk
from writers.routing import RoutedBatch, RoutedPiece
from writers.spill import SpillFile
from writers.staging_room import StagingRoom

WINDOWS = [TimeWindow(start_s=start, end_s=start + 10) for start in (0, 10, 20)]
NO_LIMIT = 1 << 60
ROOM = StagingRoom(limit_bytes=1 << 40)
WRITERS = 2
WIDE = 80  # bytes in a row, so that the rows of a first file are enough bytes for one

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
        self,
        budget: Budget,
        chunk_bytes: int = NO_LIMIT,
        writers: Jobs | None = None,
        spill: SpillFile | None = None,
        *,
        is_ordered: bool = False,
        row_bytes: int = 8,
    ) -> None:
        self._budget = budget
        self._weight = row_bytes // 8  # what is counted for a row, whatever it has
        self._writers = writers
        self._spill = spill
        self.chunks: list[Chunk] = []
        self.early = 0  # chunks that came before the end
        self.spilled_rows: list[int] = []  # of each batch that was spilled
        self.sent: dict[TimeWindow, list[int]] = defaultdict(list)
        self.rows = 0
        self._released = 0
        self.buffer = budget.open_buffer(chunk_bytes=chunk_bytes, is_ordered=is_ordered, owner=self)

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
        size = routed.batch.nbytes * self._weight
        self._budget.adjust(self.buffer, size - guess)
        for piece in routed.pieces:
            first = self.rows + piece.start
            self.sent[piece.window] += range(first, first + piece.rows)
        self.rows += sum(counts)
        self.buffer.add(routed, size)

    def write_one(self) -> None:
        """Let a writer be done with the oldest chunk that left."""
        self._budget.release(self.buffer, self.chunks[self._released])
        self._released += 1

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
    spill = SpillFile(path=tmp_path / "put.arrow", room=ROOM)
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
    may_spill=st.booleans(),
)
def test_puts_that_share_a_budget(
    steps: list[tuple[int, tuple[int, int, int], int]], limit_bytes: int, chunk_bytes: int, may_spill: bool
) -> None:
    """For any interleaving, limit and chunk size: no row lost, doubled or moved, and the budget is empty at the end."""
    budget = Budget(limit_bytes=limit_bytes, writers=WRITERS, may_spill=lambda: may_spill)
    with tempfile.TemporaryDirectory() as directory, _writing(budget) as writers:
        spills = [SpillFile(path=Path(directory, f"{number}.arrow"), room=ROOM) for number in range(3)]
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
    assert budget.used_bytes == budget.load.bytes == 0
    for put in puts:
        assert sorted(chunk.sequence for chunk in put.chunks) == list(range(1, len(put.chunks) + 1))


@settings(deadline=None, max_examples=25)
@given(counts=st.lists(ROWS.filter(bool), min_size=1, max_size=20))
def test_early_files_are_whole_row_groups(counts: list[int]) -> None:
    """A partition that fills up is cut into files of whole row groups; only the last files of a put are not."""
    put = _Put(Budget(limit_bytes=NO_LIMIT, writers=WRITERS), row_bytes=WIDE)
    for count in counts:
        put.send(count)
    put.finish()
    assert {chunk.rows % ROW_GROUP for chunk in put.chunks[: put.early]} <= {0}
    assert all(FIRST_CHUNK_ROWS <= chunk.rows <= LARGEST_CHUNK_ROWS for chunk in put.chunks[: put.early])
    assert put.written() == put.sent


def test_files_grow_while_writers_are_busy() -> None:
    """The first files are small so that every writer has work soon; then rows gather to large ones, up to a limit."""
    put = _Put(Budget(limit_bytes=NO_LIMIT, writers=WRITERS), row_bytes=WIDE)
    for _ in range(60):
        put.send(ROW_GROUP)
    assert [chunk.rows for chunk in put.chunks] == [FIRST_CHUNK_ROWS] * WRITERS + [LARGEST_CHUNK_ROWS] * 3


def test_a_writer_that_becomes_idle_gets_its_share_of_what_is_there() -> None:
    """A writer with nothing to do need not wait until a large file is together, and leaves something to the others."""
    put = _Put(Budget(limit_bytes=NO_LIMIT, writers=WRITERS), row_bytes=WIDE)
    for _ in range(2 * WRITERS + 9):
        put.send(ROW_GROUP)
    put.write_one()
    put.send(ROW_GROUP)
    assert put.chunks[-1].rows == 5 * ROW_GROUP


def test_rows_leave_early_when_the_budget_is_short() -> None:
    """Rows gather to large files only while there is room for others."""
    budget = Budget(limit_bytes=_size(14 * ROW_GROUP), writers=WRITERS)
    put = _Put(budget)
    for _ in range(6):
        put.send(ROW_GROUP)
    assert not put.chunks
    put.send(ROW_GROUP)
    assert [chunk.rows for chunk in put.chunks] == [3 * ROW_GROUP, 2 * ROW_GROUP, 2 * ROW_GROUP]


def test_narrow_rows_gather_until_they_are_worth_a_file() -> None:
    """A file of few bytes costs more than its rows: an idle writer waits for enough of them."""
    put = _Put(Budget(limit_bytes=NO_LIMIT, writers=WRITERS), row_bytes=24)
    while not put.chunks:
        put.send(ROW_GROUP)
    assert put.rows == -(-FIRST_CHUNK_BYTES // (24 * ROW_GROUP)) * ROW_GROUP


def test_the_rest_is_cut_for_all_writers() -> None:
    """The rows that are left at the end keep all writers busy for about as long, if nobody else uses them."""
    budget = Budget(limit_bytes=NO_LIMIT, writers=WRITERS)
    put = _Put(budget)
    put.send(ROW_GROUP + 1)
    put.finish()
    assert [chunk.rows for chunk in put.chunks] == [ROW_GROUP // 2 + 1, ROW_GROUP // 2]
    assert put.written() == put.sent

    one, other = _Put(budget), _Put(budget)
    for each in (one, other):
        each.send(ROW_GROUP)
        each.finish()
        assert [chunk.rows for chunk in each.chunks] == [ROW_GROUP]


def test_a_little_rest_is_one_file() -> None:
    """Few rows are not worth two files."""
    put = _Put(Budget(limit_bytes=NO_LIMIT, writers=WRITERS))
    put.send(LAST_CHUNK_ROWS)
    put.finish()
    assert [chunk.rows for chunk in put.chunks] == [LAST_CHUNK_ROWS]


def test_an_ordered_stream_gives_up_the_windows_it_has_left() -> None:
    """A window that an ordered stream has passed is complete: if it is worth a file, an idle writer need not wait."""
    ordered, unordered, little = (
        _Put(Budget(limit_bytes=NO_LIMIT, writers=WRITERS), is_ordered=is_ordered, row_bytes=row_bytes)
        for is_ordered, row_bytes in ((True, FIRST_CHUNK_BYTES), (False, FIRST_CHUNK_BYTES), (True, 8))
    )
    for put in (ordered, unordered, little):
        put.send(5, 3)
        put.send(0, 0, 4)
    assert [(chunk.window, chunk.rows) for chunk in ordered.chunks] == [(WINDOWS[0], 5), (WINDOWS[1], 3)]
    assert not unordered.chunks
    assert not little.chunks
    ordered.finish()
    assert ordered.written() == ordered.sent


def test_windows_that_an_ordered_stream_has_left_need_not_be_spilled() -> None:
    """They leave the buffer before the budget is used up, though the writers are busy."""
    put = _Put(Budget(limit_bytes=_size(100), writers=1), is_ordered=True)
    put.send(1, 30)
    put.send(0, 10, 5)
    assert not put.chunks
    put.send(0, 0, 10)
    assert [(chunk.window, chunk.rows) for chunk in put.chunks] == [(WINDOWS[0], 1), (WINDOWS[1], 40)]


def test_wide_rows_are_cut_by_bytes() -> None:
    """A partition of few, wide rows is handed over at its bytes, with whatever rows it has."""
    put = _Put(Budget(limit_bytes=NO_LIMIT, writers=WRITERS), chunk_bytes=_size(1_000))
    put.send(999)
    assert not put.chunks
    put.send(1)
    assert [chunk.rows for chunk in put.chunks] == [1_000]


def test_the_rest_comes_oldest_window_first() -> None:
    """At the end of a put its windows are taken in the order of time, each whole."""
    put = _Put(Budget(limit_bytes=NO_LIMIT, writers=WRITERS))
    put.send(0, 0, 3)
    put.send(3)
    put.send(3, 3)
    put.finish()
    assert [(chunk.window, chunk.rows) for chunk in put.chunks] == [(WINDOWS[0], 6), (WINDOWS[1], 3), (WINDOWS[2], 3)]
    assert not put.buffer.take_rest()


def test_room_is_made_from_the_largest_buffer_of_any_put(spill: SpillFile) -> None:
    """A stream that needs room gets it from whoever holds most, oldest batch first, and no more than is needed."""
    budget = Budget(limit_bytes=_size(1_000), writers=WRITERS)
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


def test_where_nothing_may_be_spilled_rows_are_written_before_their_time() -> None:
    """A stream that needs room gets it from the largest buffer without a spill file too: by files of what is there."""
    budget = Budget(limit_bytes=_size(1_000), writers=WRITERS, may_spill=lambda: False)
    with _writing(budget) as writers:
        small, large = _Put(budget, writers=writers), _Put(budget, writers=writers)
        small.send(100)
        large.send(300, 500)
        budget.reserve(small.buffer, _size(400))
        assert budget.used_bytes == _size(500)
        assert ([chunk.rows for chunk in large.chunks], large.spilled_rows, small.chunks) == ([300, 500], [], [])
        large.send(10)
        large.finish()
        assert large.written() == large.sent


def test_spilled_rows_keep_their_place(spill: SpillFile) -> None:
    """Rows that were spilled come before what came after them, in the same file."""
    budget = Budget(limit_bytes=_size(100), writers=WRITERS)
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
    budget = Budget(limit_bytes=NO_LIMIT, writers=WRITERS)
    put = _Put(budget)
    put.send(10, 20, 30)
    put.finish()
    for left, chunk in zip((60, 60, 0), put.chunks, strict=True):
        budget.release(put.buffer, chunk)
        assert budget.used_bytes == _size(left)


@pytest.mark.parametrize("limit_bytes", [0, 100])
def test_a_stream_with_nothing_buffered_never_waits(limit_bytes: int) -> None:
    """What a stream may always hold needs nobody's leave: so every stream moves on, however full the budget is."""
    budget = Budget(limit_bytes=limit_bytes, writers=WRITERS)
    full, other = _Put(budget), _Put(budget)
    full.send(1_000)
    budget.reserve(other.buffer, 1 << 30)
    assert other.buffer.reserved_bytes == 1 << 30
    assert not full.chunks
    assert not full.spilled_rows


def test_a_stream_waits_for_busy_writers() -> None:
    """A stream whose rows are with the writers is not read until they have made room, and goes on then."""
    budget = Budget(limit_bytes=_size(1_000), writers=WRITERS)
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


def test_a_stream_is_not_read_far_ahead_of_busy_writers() -> None:
    """It waits before the budget is used up, spills nothing, and a writer that becomes idle gets rows at once."""
    budget = Budget(limit_bytes=NO_LIMIT, writers=1)
    put = _Put(budget, row_bytes=AHEAD_BYTES // FIRST_CHUNK_ROWS + 8)
    put.send(FIRST_CHUNK_ROWS)
    for _ in range(2):
        put.send(ROW_GROUP)
    assert len(put.chunks) == 1
    waiting = threading.Thread(target=budget.reserve, args=(put.buffer, 0))
    waiting.start()
    waiting.join(timeout=0.05)
    assert waiting.is_alive()
    put.write_one()
    waiting.join(timeout=30)
    assert [chunk.rows for chunk in put.chunks] == [FIRST_CHUNK_ROWS, 2 * ROW_GROUP]
    assert not put.spilled_rows


def test_a_stream_does_not_wait_for_writers_that_only_others_keep_busy() -> None:
    """Where small puts never let a writer be idle, a large one has its rows in their queue, and is read on."""
    budget = Budget(limit_bytes=NO_LIMIT, writers=1)
    small, large = _Put(budget, chunk_bytes=1), _Put(budget, row_bytes=AHEAD_BYTES // FIRST_CHUNK_ROWS + 8)
    small.send(1)
    small.send(1)
    assert len(small.chunks) == 2
    for _ in range(3):
        large.send(ROW_GROUP)
    assert [chunk.rows for chunk in large.chunks] == [FIRST_CHUNK_ROWS]
    waiting = threading.Thread(target=large.send, args=(ROW_GROUP,))  # is taken; the next one would be too far ahead
    waiting.start()
    waiting.join(timeout=30)
    assert not waiting.is_alive()


def test_what_a_stream_has_gathered_is_nothing_once_all_is_written() -> None:
    """Rounding of what a row takes does not add up: a long stream would count as far ahead for ever."""
    budget = Budget(limit_bytes=NO_LIMIT, writers=WRITERS)
    put = _Put(budget, chunk_bytes=1)
    for _ in range(50):
        routed = _routed(0, (1, 1, 1))
        budget.adjust(put.buffer, 29)  # not a multiple of three
        put.buffer.add(routed, 29)
    assert put.buffer.gathered_bytes == 0


def test_a_spill_that_failed_does_not_hold_up_others() -> None:
    """A put whose rows the disk did not take has failed: its memory is given back once, and the next stream goes on."""
    budget = Budget(limit_bytes=_size(100), writers=WRITERS)
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
    budget = Budget(limit_bytes=NO_LIMIT, writers=WRITERS)
    put = _Put(budget, chunk_bytes=_size(100))
    put.send(50)
    put.send(0, 100, 20)  # the second window is due: its batch is with the writers
    [chunk] = put.chunks
    put.buffer.discard()
    assert budget.used_bytes == _size(120)
    assert put.buffer.take_rest() == []
    budget.release(put.buffer, chunk)
    budget.close_buffer(put.buffer)
    assert budget.used_bytes == budget.load.bytes == 0


def test_closing_gives_back_what_a_put_still_holds() -> None:
    """A put that failed gives back its reservation and its buffered rows, and nobody takes from it any more."""
    budget = Budget(limit_bytes=_size(1_000), writers=WRITERS)
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
    budget = Budget(limit_bytes=_size(1_000), writers=WRITERS)
    failed, other = _ClosingPut(budget, spill=spill), _Put(budget)
    failed.send(900)
    other.send(10)
    budget.reserve(other.buffer, _size(500))
    assert failed.spilled_rows == [900]
    assert budget.used_bytes == _size(510)
    assert failed.buffer.leaving == 0
    budget.close_buffer(other.buffer)
    assert budget.used_bytes == 0
