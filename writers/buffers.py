"""Memory: one budget for everything buffered, whoever sent it, and room that can always be made without a client.

A stream reserves room for its next message before it reads it. When there is none, the largest buffers are handed to
the writers, whoever owns them; when nothing is left to hand over, the stream waits for the writers. A stream that is
not read is slowed by gRPC's flow control. What a stream holds back (its last batch) and its next message never depend
on others' progress, so every stream always moves on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from timestore.windows import TimeWindow

ROW_GROUP = 122_880  # DuckDB's; a partial one costs about 1.3 times as much per row
FIRST_CHUNK_ROWS = 2 * ROW_GROUP  # small enough to keep every writer busy from the start
LARGEST_CHUNK_ROWS = 8 * ROW_GROUP


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows of one partition that become one data file."""

    sequence: int  # in the order of its put
    window: TimeWindow
    batches: tuple[pa.RecordBatch, ...]
    rows: int
    bytes: int  # what it holds of the budget


@dataclass(slots=True)
class _Partition:
    window: TimeWindow
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    chunks: int = 0  # taken so far

    def target_rows(self) -> int:
        """Say how many rows the next file should have: more, the more files there are."""
        return min(FIRST_CHUNK_ROWS << (self.chunks // 4), LARGEST_CHUNK_ROWS)

    def take_front(self, rows: int) -> list[pa.RecordBatch]:
        """Remove so many rows from the front, cutting the last batch where needed."""
        taken = []
        while rows:
            batch = self.batches.pop(0)
            if batch.num_rows > rows:
                self.batches.insert(0, batch.slice(rows))
                batch = batch.slice(0, rows)
            taken.append(batch)
            rows -= batch.num_rows
        return taken


class PutBuffer:
    """The buffered rows of one put, by partition. All state is guarded by the lock of its ``Budget``."""

    def __init__(self, *, budget: Budget, chunk_bytes: int, dispatch: Callable[[list[Chunk]], None]) -> None:
        self._budget = budget
        self._chunk_bytes = chunk_bytes
        self.dispatch = dispatch  # gives chunks to the writers; must not raise
        self.partitions: dict[TimeWindow, _Partition] = {}
        self.reserved_bytes = 0  # for the next message, and for what the stream holds back
        self.buffered_bytes = 0  # in partitions, and with the writers
        self.chunks_taken = 0
        self.chunks_released = 0

    def add(self, window: TimeWindow, batch: pa.RecordBatch) -> None:
        """Buffer rows whose bytes are reserved; hand over the chunks that became complete."""
        size = batch.nbytes
        with self._budget.condition:
            self.reserved_bytes -= size
            self.buffered_bytes += size
            partition = self.partitions.setdefault(window, _Partition(window))
            partition.batches.append(batch)
            partition.rows += batch.num_rows
            partition.bytes += size
            full = []
            while partition.rows >= partition.target_rows() or (
                partition.bytes >= self._chunk_bytes and partition.rows
            ):
                full.append(self.take_chunk(partition))
        if full:
            self.dispatch(full)

    def take_all(self) -> list[Chunk]:
        """Take what is left, oldest window first."""
        with self._budget.condition:
            return [self.take_rest(part) for _, part in sorted(self.partitions.items()) if part.rows]

    def wait_until_written(self) -> None:
        """Wait until every chunk that was taken, by whomever, has been released."""
        with self._budget.condition:
            self._budget.condition.wait_for(lambda: self.chunks_released == self.chunks_taken)

    def largest(self) -> _Partition | None:
        """Return the largest partition that has rows; the caller holds the lock."""
        return max((p for p in self.partitions.values() if p.rows), key=lambda p: p.bytes, default=None)

    def take_chunk(self, partition: _Partition) -> Chunk:
        """Take whole row groups from the front, or all rows if they are fewer; the caller holds the lock."""
        rows = min(partition.rows, partition.target_rows()) // ROW_GROUP * ROW_GROUP
        if not rows or rows == partition.rows:
            return self.take_rest(partition)
        batches = partition.take_front(rows)
        size = min(sum(batch.nbytes for batch in batches), partition.bytes)
        return self._chunk(partition, batches, rows, size)

    def take_rest(self, partition: _Partition) -> Chunk:
        """Take all rows of a partition; the caller holds the lock."""
        batches, partition.batches = partition.batches, []
        return self._chunk(partition, batches, partition.rows, partition.bytes)

    def _chunk(self, partition: _Partition, batches: list[pa.RecordBatch], rows: int, size: int) -> Chunk:
        partition.rows -= rows
        partition.bytes -= size
        partition.chunks += 1
        self.chunks_taken += 1
        return Chunk(sequence=self.chunks_taken, window=partition.window, batches=tuple(batches), rows=rows, bytes=size)


class Budget:
    """Bytes that all puts of a server share. Thread safe."""

    def __init__(self, *, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.condition = threading.Condition()
        self._used_bytes = 0
        self._buffers: list[PutBuffer] = []

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def open_buffer(self, *, chunk_bytes: int, dispatch: Callable[[list[Chunk]], None]) -> PutBuffer:
        """Register the buffer of a new put."""
        buffer = PutBuffer(budget=self, chunk_bytes=chunk_bytes, dispatch=dispatch)
        with self.condition:
            self._buffers.append(buffer)
        return buffer

    def reserve(self, buffer: PutBuffer, size: int) -> None:
        """Reserve room for a stream, making some or waiting for it.

        Returns at once when the stream has nothing with the writers: what it may always hold needs nobody's leave.
        """
        while True:
            with self.condition:
                if self._used_bytes + size <= self.limit_bytes or not buffer.buffered_bytes:
                    self._used_bytes += size
                    buffer.reserved_bytes += size
                    return
                victim = self._take_largest()
                if victim is None:
                    self.condition.wait(timeout=1.0)
                    continue
            owner, chunk = victim
            owner.dispatch([chunk])

    def adjust(self, buffer: PutBuffer, change: int) -> None:
        """Correct a reservation once the true size is known."""
        with self.condition:
            self._used_bytes += change
            buffer.reserved_bytes += change
            self.condition.notify_all()

    def release(self, buffer: PutBuffer, chunk: Chunk) -> None:
        """Give back the bytes of a chunk that was written or given up."""
        with self.condition:
            self._used_bytes -= chunk.bytes
            buffer.buffered_bytes -= chunk.bytes
            buffer.chunks_released += 1
            self.condition.notify_all()

    def close_buffer(self, buffer: PutBuffer) -> None:
        """Give back what a put still holds; its chunks must have been released."""
        with self.condition:
            self._used_bytes -= buffer.reserved_bytes + buffer.buffered_bytes
            buffer.partitions.clear()
            buffer.reserved_bytes = buffer.buffered_bytes = 0
            self._buffers.remove(buffer)
            self.condition.notify_all()

    def _take_largest(self) -> tuple[PutBuffer, Chunk] | None:
        candidates = [(part.bytes, owner, part) for owner in self._buffers if (part := owner.largest()) is not None]
        if not candidates:
            return None
        _, owner, partition = max(candidates, key=lambda candidate: candidate[0])
        return owner, owner.take_rest(partition)
