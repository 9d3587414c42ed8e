"""Memory: one budget for everything buffered, whoever sent it, and room that can always be made without a client.

A stream reserves room for its next message before it reads it. When there is none and the writers are busy it waits for
them; when they are not, the largest buffers are written to spill files, whoever owns them. A stream that is not read is
slowed by gRPC's flow control. What a stream holds back (its last batch) and its next message never depend on others'
progress, so every stream always moves on.

Bytes are counted per batch, not per partition: however few rows of a batch are left, they keep all of it in memory.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from timestore.windows import TimeWindow
from writers.routing import RoutedBatch
from writers.spill import Segment

ROW_GROUP = 122_880  # DuckDB's; a partial one costs about 1.3 times as much per row
FIRST_CHUNK_ROWS = 2 * ROW_GROUP  # small enough to keep every writer busy from the start
LARGEST_CHUNK_ROWS = 8 * ROW_GROUP
BUSY_SHARE = 4  # while the writers hold this part of the budget, waiting for them is quicker than spilling
SPILL_SHARE = 8  # a spill frees at least this part of the budget, so that spills are few and large


@dataclass(frozen=True, slots=True)
class Part:
    """A run of rows in a routed batch."""

    segment: Segment
    start: int
    rows: int

    @property
    def bytes(self) -> int:
        """Return what these rows take, on average."""
        return self.segment.bytes * self.rows // max(self.segment.total_rows, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows of one partition that become one data file."""

    sequence: int  # in the order of its put
    window: TimeWindow
    parts: tuple[Part, ...]
    rows: int


class PutOwner(Protocol):
    """What a put does with rows that leave its buffer. Neither method raises."""

    def dispatch(self, chunks: Sequence[Chunk]) -> None:
        """Give chunks to the writers, who release each when done."""
        ...

    def spill(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, mmap.mmap] | None:
        """Move a batch to the put's spill file, on any put's thread; None if that failed, and the put with it."""
        ...


@dataclass(slots=True)
class _Partition:
    """The gathered rows of one partition, in order."""

    window: TimeWindow
    parts: deque[Part] = field(default_factory=deque)
    rows: int = 0
    bytes: int = 0
    chunks: int = 0  # taken so far

    def add(self, part: Part) -> None:
        self.parts.append(part)
        self.rows += part.rows
        self.bytes += part.bytes

    def is_due(self, chunk_bytes: int) -> bool:
        """Say whether enough was gathered for a file."""
        return self.rows >= self._target_rows() or (self.rows > 0 and self.bytes >= chunk_bytes)

    def take_due(self) -> list[Part]:
        """Take whole row groups from the front, or everything if there are fewer rows."""
        rows = min(self.rows, self._target_rows()) // ROW_GROUP * ROW_GROUP
        return self.take(rows or self.rows)

    def take(self, rows: int) -> list[Part]:
        """Take so many rows from the front."""
        taken: list[Part] = []
        while rows:
            part = self.parts.popleft()
            if part.rows > rows:
                self.parts.appendleft(Part(part.segment, part.start + rows, part.rows - rows))
                part = Part(part.segment, part.start, rows)
            taken.append(part)
            rows -= part.rows
            self.rows -= part.rows
            self.bytes -= part.bytes
        self.bytes = self.bytes if self.parts else 0
        self.chunks += 1
        return taken

    def _target_rows(self) -> int:
        """Ask for more rows the more files there are."""
        return min(FIRST_CHUNK_ROWS << (self.chunks // 4), LARGEST_CHUNK_ROWS)


class PutBuffer:
    """The buffered rows of one put, by partition. All state is guarded by the lock of its ``Budget``."""

    def __init__(self, *, budget: Budget, chunk_bytes: int, owner: PutOwner) -> None:
        self._budget = budget
        self._chunk_bytes = chunk_bytes
        self.owner = owner
        self._partitions: dict[TimeWindow, _Partition] = {}
        self.resident: dict[int, Segment] = {}  # segments in memory, oldest first, by id
        self.reserved_bytes = 0  # for the next message, and for what the stream holds back
        self.resident_bytes = 0
        self.leaving = 0  # chunks with the writers, and spills under way
        self._chunks_taken = 0

    def add(self, routed: RoutedBatch, size: int) -> None:
        """Buffer a routed batch whose bytes are reserved; hand over the chunks that became complete."""
        rows = routed.batch.num_rows
        segment = Segment(batch=routed.batch, bytes=size, total_rows=rows, rows_left=rows)
        due: list[Chunk] = []
        with self._budget.condition:
            self.reserved_bytes -= size
            self.resident_bytes += size
            self.resident[id(segment)] = segment
            for piece in routed.pieces:
                partition = self._partitions.setdefault(piece.window, _Partition(piece.window))
                partition.add(Part(segment, piece.start, piece.rows))
                while partition.is_due(self._chunk_bytes):
                    due.append(self._chunk(partition, partition.take_due()))
        if due:
            self.owner.dispatch(due)

    def take_rest(self) -> list[Chunk]:
        """Take what is left, oldest window first."""
        with self._budget.condition:
            partitions = [partition for _, partition in sorted(self._partitions.items()) if partition.rows]
            return [self._chunk(partition, partition.take(partition.rows)) for partition in partitions]

    def discard(self) -> None:
        """Drop the rows of a put that has failed, but for what the writers have."""
        with self._budget.condition:
            self._partitions.clear()
            for segment in [each for each in self.resident.values() if not each.parts_out and not each.spilling]:
                self.forget(segment)
            self._budget.condition.notify_all()

    def wait_until_written(self) -> None:
        """Wait until everything that left, by whomever, has been released."""
        with self._budget.condition:
            self._budget.condition.wait_for(lambda: not self.leaving)

    def forget(self, segment: Segment) -> None:
        """Stop counting a segment that is no longer in memory; the caller holds the lock."""
        if self.resident.pop(id(segment), None) is not None:
            self.resident_bytes -= segment.bytes
            self._budget.used_bytes -= segment.bytes

    def _chunk(self, partition: _Partition, parts: list[Part]) -> Chunk:
        self._chunks_taken += 1
        self.leaving += 1
        for part in parts:
            part.segment.parts_out += 1
            self._budget.with_writers_bytes += part.bytes
        return Chunk(
            sequence=self._chunks_taken,
            window=partition.window,
            parts=tuple(parts),
            rows=sum(part.rows for part in parts),
        )


class Budget:
    """Bytes that all puts of a server share. Thread safe."""

    def __init__(self, *, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.condition = threading.Condition()
        self.used_bytes = 0
        self.with_writers_bytes = 0  # in chunks that are queued or being written
        self._buffers: list[PutBuffer] = []

    def open_buffer(self, *, chunk_bytes: int, owner: PutOwner) -> PutBuffer:
        """Register the buffer of a new put."""
        buffer = PutBuffer(budget=self, chunk_bytes=chunk_bytes, owner=owner)
        with self.condition:
            self._buffers.append(buffer)
        return buffer

    def reserve(self, buffer: PutBuffer, size: int) -> None:
        """Reserve room for a stream, waiting for it or making it.

        Returns at once when the stream has nothing buffered: what it may always hold needs nobody's leave.
        """
        while True:
            with self.condition:
                if self.used_bytes + size <= self.limit_bytes or not buffer.resident_bytes:
                    self.used_bytes += size
                    buffer.reserved_bytes += size
                    return
                busy = self.with_writers_bytes > 0 and self.with_writers_bytes * BUSY_SHARE >= self.limit_bytes
                leaving = [] if busy else self._choose_spills(size)
                if not leaving:
                    self.condition.wait(timeout=1.0)
            for owner, segment in leaving:
                self._spill(owner, segment)

    def adjust(self, buffer: PutBuffer, change: int) -> None:
        """Correct a reservation once the true size is known."""
        with self.condition:
            self.used_bytes += change
            buffer.reserved_bytes += change
            self.condition.notify_all()

    def release(self, buffer: PutBuffer, chunk: Chunk) -> None:
        """Give back a chunk that was written or given up."""
        for part in chunk.parts:
            part.segment.let_pages_go()
        with self.condition:
            for part in chunk.parts:
                self.with_writers_bytes -= part.bytes
                part.segment.parts_out -= 1
                part.segment.rows_left -= part.rows
                if not part.segment.rows_left:
                    buffer.forget(part.segment)
            buffer.leaving -= 1
            self.condition.notify_all()

    def close_buffer(self, buffer: PutBuffer) -> None:
        """Give back what a put still holds; whatever left must have been released."""
        with self.condition:
            self.used_bytes -= buffer.reserved_bytes + buffer.resident_bytes
            buffer.reserved_bytes = buffer.resident_bytes = 0
            buffer.resident.clear()
            self._buffers.remove(buffer)
            self.condition.notify_all()

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

    def _spill(self, buffer: PutBuffer, segment: Segment) -> None:
        spilled = None
        try:
            spilled = buffer.owner.spill(segment.batch)
        finally:
            with self.condition:
                if spilled is not None:
                    segment.batch, segment.mapping = spilled
                buffer.forget(segment)  # without success too: the put has failed, and needs its rows no more
                buffer.leaving -= 1
                self.condition.notify_all()
