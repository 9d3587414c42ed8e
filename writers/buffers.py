"""Memory: one budget for everything buffered, whoever sent it, and room that can always be made without a client.

A stream reserves room for its next message before it reads it. It waits when it is far ahead of writers that all have
work: what lies longer is stored no sooner. When there is no room and the writers are busy it waits for them too; when
they are not, the largest buffers are written to spill files, whoever owns them, or once these are full, to data files
before their time. A stream that is not read is slowed by gRPC's flow control. What a stream holds back (its last batch)
and its next message never depend on other streams' progress, so every stream always moves on.

Bytes are counted per batch, not per partition: however few rows of a batch are left, they keep all of it in memory.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from timestore.windows import TimeWindow
from writers.chunks import LAST_CHUNK_ROWS, ROW_GROUP, Chunk, Part, Partition
from writers.routing import RoutedBatch
from writers.spill import Segment
from writers.writer_load import WriterLoad

FIRST_CHUNK_ROWS = 2 * ROW_GROUP  # enough for a file as long as a writer has nothing to do,
FIRST_CHUNK_BYTES = 8 << 20  # if they are so many bytes: a file costs as much as 30 000 rows of three columns
LARGEST_CHUNK_ROWS = 16 * ROW_GROUP
AHEAD_BYTES = 192 << 20  # a stream is not read further ahead of writers that all have work: it would be no sooner done
AHEAD_SHARE = 2  # and no further than with this part of the budget
EAGER_SHARE = 2  # when so much of the budget is used, rows leave as soon as they are enough for a file
BUSY_SHARE = 4  # while the writers hold this part of the budget, waiting for them is quicker than spilling
SPILL_SHARE = 8  # a spill frees at least this part of the budget, so that spills are few and large


class PutOwner(Protocol):
    """What a put does with rows that leave its buffer. Neither method raises."""

    def dispatch(self, chunks: Sequence[Chunk]) -> None:
        """Give chunks to the writers, who release each when done."""
        ...

    def spill(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, mmap.mmap] | None:
        """Move a batch to the put's spill file, on any put's thread; None if that failed, and the put with it."""
        ...


class PutBuffer:
    """The buffered rows of one put, by partition. All state is guarded by the lock of its ``Budget``."""

    def __init__(self, *, budget: Budget, chunk_bytes: int, is_ordered: bool, owner: PutOwner) -> None:
        self._budget = budget
        self._chunk_bytes = chunk_bytes
        self._is_ordered = is_ordered
        self.owner = owner
        self._partitions: dict[TimeWindow, Partition] = {}
        self.resident: dict[int, Segment] = {}  # segments in memory, oldest first, by id
        self.reserved_bytes = 0  # for the next message, and for what the stream holds back
        self.resident_bytes = 0
        self.gathered_bytes = 0  # of rows that have not left yet
        self.leaving = 0  # chunks with the writers, and spills under way
        self._all_through = threading.Condition(budget.lock)  # of its own: what one put waits for wakes no other
        self._chunks_taken = 0

    def add(self, routed: RoutedBatch, size: int) -> None:
        """Buffer a routed batch whose bytes are reserved; hand over the chunks that became complete."""
        rows = routed.batch.num_rows
        segment = Segment(batch=routed.batch, bytes=size, total_rows=rows, rows_left=rows)
        due: list[Chunk] = []
        with self._budget.lock:
            self.reserved_bytes -= size
            self.resident_bytes += size
            self.resident[id(segment)] = segment
            for piece in routed.pieces:
                partition = self._partitions.setdefault(piece.window, Partition(piece.window))
                part = Part(segment, piece.start, piece.rows)
                partition.add(part)
                self.gathered_bytes += part.bytes
                due += self._take_due(partition)
            if self._is_ordered:
                due += self._take_past(routed.pieces[-1].window)
        if due:
            self.owner.dispatch(due)

    @property
    def may_leave(self) -> bool:
        """Say whether more rows are of use to the writers; the caller holds the lock.

        They are when a writer is idle. And however busy others keep them, each put may have something in their queue.
        """
        return self._budget.load.has_idle_writers or not self.leaving

    def take_due(self) -> list[Chunk]:
        """Take what is to be written now; the caller holds the lock."""
        return [chunk for partition in self._partitions.values() for chunk in self._take_due(partition)]

    def take_rest(self) -> list[Chunk]:
        """Take what is left, oldest window first, cut so that all writers end at about the same time."""
        with self._budget.lock:
            partitions = [partition for _, partition in sorted(self._partitions.items()) if partition.rows]
            shares = self._budget.fair_shares(sum(partition.rows for partition in partitions), self.gathered_bytes)
            return [chunk for partition in partitions for chunk in self._in_shares(partition, shares)]

    def discard(self) -> None:
        """Drop the rows of a put that has failed, but for what the writers have."""
        with self._budget.lock:
            self._partitions.clear()
            self.gathered_bytes = 0
            for segment in [each for each in self.resident.values() if not each.parts_out and not each.spilling]:
                self.forget(segment)
            self._budget.more_room.notify_all()

    def wait_until_written(self) -> None:
        """Wait until everything that left, by whomever, has been released."""
        with self._all_through:
            self._all_through.wait_for(lambda: not self.leaving)

    def note_left(self) -> None:
        """Note that a chunk or a spill is through; the caller holds the lock."""
        self.leaving -= 1
        if not self.leaving:
            self._all_through.notify_all()

    def forget(self, segment: Segment) -> None:
        """Stop counting a segment that is no longer in memory; the caller holds the lock."""
        if self.resident.pop(id(segment), None) is not None:
            self.resident_bytes -= segment.bytes
            self._budget.used_bytes -= segment.bytes

    def _take_due(self, partition: Partition) -> Iterator[Chunk]:
        while wanted := self._due_rows(partition):
            yield self._chunk(partition, partition.take_due(wanted))

    def _due_rows(self, partition: Partition) -> int:
        """Return how many rows of a partition are to be written now; 0 if it gathers on.

        Fewer and larger files take less time. So rows gather as long as the writers have enough to do without them.
        """
        if partition.rows >= LARGEST_CHUNK_ROWS or (partition.rows and partition.bytes >= self._chunk_bytes):
            return LARGEST_CHUNK_ROWS
        is_enough = partition.rows >= FIRST_CHUNK_ROWS
        is_wanted = self.may_leave and partition.bytes >= FIRST_CHUNK_BYTES
        if is_enough and (is_wanted or self._budget.is_short):
            return max(FIRST_CHUNK_ROWS, partition.rows // self._budget.load.writers)
        return 0

    def _take_past(self, latest: TimeWindow) -> list[Chunk]:
        """Take windows that an ordered stream has left, oldest first, if they are worth files and wanted now."""
        past = [partition for window, partition in self._partitions.items() if window < latest]
        rows, size = sum(partition.rows for partition in past), sum(partition.bytes for partition in past)
        taken: list[Chunk] = []
        if rows < ROW_GROUP and size < FIRST_CHUNK_BYTES and not self._budget.is_short:
            return taken
        for partition in past:
            if not self._budget.load.has_idle_writers and not self._budget.is_short:
                break
            del self._partitions[partition.window]
            if partition.rows:
                taken.append(self._chunk(partition, partition.take(partition.rows)))
        return taken

    def _in_shares(self, partition: Partition, shares: list[int]) -> Iterator[Chunk]:
        """Cut a partition where a share is full, but not for a little rest; used shares are used up."""
        while partition.rows:
            is_last = len(shares) == 1 or partition.rows < shares[0] + LAST_CHUNK_ROWS
            rows = partition.rows if is_last else shares[0]
            yield self._chunk(partition, partition.take(rows))
            shares[0] -= rows
            if len(shares) > 1 and shares[0] < LAST_CHUNK_ROWS:
                del shares[0]

    def _chunk(self, partition: Partition, parts: list[Part]) -> Chunk:
        self._chunks_taken += 1
        self.leaving += 1
        for part in parts:
            part.segment.parts_out += 1
        chunk = Chunk(sequence=self._chunks_taken, window=partition.window, parts=tuple(parts))
        self.gathered_bytes -= chunk.bytes
        self._budget.load.begin(chunk)
        return chunk


class Budget:
    """Bytes that all puts of a server share. Thread safe."""

    def __init__(self, *, limit_bytes: int, writers: int, may_spill: Callable[[], bool] = lambda: True) -> None:
        self.limit_bytes = limit_bytes
        self.load = WriterLoad(writers=writers)
        self._may_spill = may_spill
        self.lock = threading.RLock()
        self.more_room = threading.Condition(self.lock)
        self.used_bytes = 0
        self._buffers: list[PutBuffer] = []

    @property
    def is_short(self) -> bool:
        """Say whether much of the budget is used; the caller holds the lock."""
        return self.used_bytes * EAGER_SHARE >= self.limit_bytes

    def fair_shares(self, rows: int, size: int) -> list[int]:
        """Return how large parts the last rows of a put are cut into, in this order; the caller holds the lock."""
        if len(self._buffers) <= 1:
            return self.load.shares(rows, size)
        writers = max(1, self.load.writers // len(self._buffers))  # other puts use them too
        return [max(LAST_CHUNK_ROWS, -(-rows // writers))] * writers

    def open_buffer(self, *, chunk_bytes: int, is_ordered: bool, owner: PutOwner) -> PutBuffer:
        """Register the buffer of a new put; ``is_ordered`` if its rows come in order of time."""
        buffer = PutBuffer(budget=self, chunk_bytes=chunk_bytes, is_ordered=is_ordered, owner=owner)
        with self.lock:
            self._buffers.append(buffer)
        return buffer

    def reserve(self, buffer: PutBuffer, size: int) -> None:
        """Reserve room for a stream, waiting for it or making it.

        Returns at once when the stream has nothing buffered: what it may always hold needs nobody's leave.
        """
        self._wait_for_writers(buffer)
        while True:
            with self.lock:
                if self.used_bytes + size <= self.limit_bytes or not buffer.resident_bytes:
                    self.used_bytes += size
                    buffer.reserved_bytes += size
                    return
                busy = self.load.bytes > 0 and self.load.bytes * BUSY_SHARE >= self.limit_bytes
                may_spill = self._may_spill()
                spills = self._choose_spills(size) if may_spill and not busy else []
                owner, early = (None, []) if may_spill or busy else self._take_early()
                if not spills and not early:
                    self.more_room.wait(timeout=1.0)
            for spilling, segment in spills:
                self._spill(spilling, segment)
            if owner is not None:
                owner.dispatch(early)

    def _wait_for_writers(self, buffer: PutBuffer) -> None:
        """Wait while a stream is far ahead of writers that all have work, some of it its own; then give them more."""
        with self.lock:
            ahead = min(AHEAD_BYTES, self.limit_bytes // (AHEAD_SHARE * max(1, len(self._buffers))))
            if buffer.gathered_bytes < ahead:
                return
            self.more_room.wait_for(lambda: buffer.gathered_bytes < ahead or buffer.may_leave)
            due = buffer.take_due()
        if due:
            buffer.owner.dispatch(due)

    def adjust(self, buffer: PutBuffer, change: int) -> None:
        """Correct a reservation once the true size is known."""
        with self.lock:
            self.used_bytes += change
            buffer.reserved_bytes += change
            self.more_room.notify_all()

    def release(self, buffer: PutBuffer, chunk: Chunk) -> None:
        """Give back a chunk that was written or given up."""
        for part in chunk.parts:
            part.segment.let_pages_go()
        with self.lock:
            self.load.end(chunk)
            for part in chunk.parts:
                part.segment.parts_out -= 1
                part.segment.rows_left -= part.rows
                if not part.segment.rows_left:
                    buffer.forget(part.segment)
            buffer.note_left()
            self.more_room.notify_all()

    def close_buffer(self, buffer: PutBuffer) -> None:
        """Give back what a put still holds; whatever left must have been released."""
        with self.lock:
            self.used_bytes -= buffer.reserved_bytes + buffer.resident_bytes
            buffer.reserved_bytes = buffer.resident_bytes = 0
            buffer.resident.clear()
            self._buffers.remove(buffer)
            self.more_room.notify_all()

    def _choose_spills(self, size: int) -> list[tuple[PutBuffer, Segment]]:
        """Choose batches of the largest buffers, oldest first, until enough will be free; the caller holds the lock."""
        wanted = max(1, size, self.limit_bytes // SPILL_SHARE)
        chosen: list[tuple[PutBuffer, Segment]] = []
        for buffer in sorted(self._buffers, key=lambda candidate: -candidate.resident_bytes):
            for segment in buffer.resident.values():
                if wanted <= 0:
                    return chosen
                if not segment.parts_out and not segment.spilling:
                    segment.spilling = True
                    buffer.leaving += 1
                    wanted -= segment.bytes
                    chosen.append((buffer, segment))
        return chosen

    def _take_early(self) -> tuple[PutOwner | None, list[Chunk]]:
        """Take all rows of the largest buffer that has any to take; the caller holds the lock."""
        for buffer in sorted(self._buffers, key=lambda candidate: -candidate.resident_bytes):
            if chunks := buffer.take_rest():
                return buffer.owner, chunks
        return None, []

    def _spill(self, buffer: PutBuffer, segment: Segment) -> None:
        spilled = None
        try:
            spilled = buffer.owner.spill(segment.batch)
        finally:
            with self.lock:
                if spilled is not None:
                    segment.batch, segment.mapping = spilled
                buffer.forget(segment)  # without success too: the put has failed, and needs its rows no more
                buffer.note_left()
                self.more_room.notify_all()
