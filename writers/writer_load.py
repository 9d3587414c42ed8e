"""What the writers have to do: whether one is idle, and how the last rows of a put keep all of them busy alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from writers.chunks import LAST_CHUNK_ROWS, Chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A chunk that a writer has, or will have."""

    bytes: int
    since: float  # in seconds of the clock


class WriterLoad:
    """The chunks that the writers have. Guarded by the lock of the ``Budget``."""

    def __init__(self, *, writers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.writers = writers
        self._clock = clock
        self._work: dict[Chunk, _Work] = {}
        self._bytes_per_s: float | None = None  # of a writer, lately

    @property
    def bytes(self) -> int:
        """Return what the rows take that are queued or being written."""
        return sum(work.bytes for work in self._work.values())

    @property
    def has_idle_writers(self) -> bool:
        return len(self._work) < self.writers

    def begin(self, chunk: Chunk) -> None:
        """Count a chunk that leaves for the writers."""
        self._work[chunk] = _Work(bytes=chunk.bytes, since=self._clock())

    def end(self, chunk: Chunk) -> None:
        """Count a chunk no more that was written or given up."""
        work = self._work.pop(chunk)
        self._bytes_per_s = work.bytes / max(self._clock() - work.since, 1e-6)

    def shares(self, rows: int, size: int) -> list[int]:
        """Return how many of so many last rows each writer gets, so that all end at about the same time.

        ``size`` is what the rows take, in bytes. There is at least one share, and the largest comes first, for in this
        order the writers become free.
        """
        left = self._left_bytes()
        while len(left) > 1:
            level = (size + sum(left)) // len(left)
            if (level - left[-1]) * rows >= LAST_CHUNK_ROWS * size:
                return [-(-(level - each) * rows // max(size, 1)) for each in left]
            left.pop()  # the busiest has enough to do
        return [rows]

    def _left_bytes(self) -> list[int]:
        """Estimate what each writer still has to write, least first, with what is queued shared out."""
        left = [0] * self.writers
        for work in sorted(map(self._left_of, self._work.values()), reverse=True):
            left[0] += work
            left.sort()
        return left

    def _left_of(self, work: _Work) -> int:
        """Estimate what is left of a chunk; as long as nobody knows how fast a writer is, half."""
        if self._bytes_per_s is None:
            return work.bytes // 2
        return max(0, work.bytes - int((self._clock() - work.since) * self._bytes_per_s))
