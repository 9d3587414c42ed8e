"""Routed batches, in memory or in a spill file: Arrow IPC messages in a file of the put's own."""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from writers.staging_room import StagingRoom


@dataclass(slots=True, kw_only=True, eq=False)
class Segment:
    """A routed batch that several partitions have rows of. It takes memory until it is spilled or all are written.

    Guarded by the lock of the ``Budget``.
    """

    batch: pa.RecordBatch  # once spilled, mapped from the spill file
    bytes: int
    total_rows: int
    rows_left: int  # rows that are not written yet
    parts_out: int = 0  # parts that the writers have
    spilling: bool = False
    mapping: mmap.mmap | None = None  # once spilled

    def let_pages_go(self) -> None:
        """Give the pages of a spilled batch back to the kernel; they come again when they are read."""
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            with suppress(OSError):  # advice: without it the kernel takes them when it needs them
                self.mapping.madvise(mmap.MADV_DONTNEED)


class SpillFile:
    """The spill file of one put. Thread safe; the file exists from the first spill until ``close``."""

    def __init__(self, *, path: Path, room: StagingRoom) -> None:
        self._path = path
        self._room = room
        self._bytes = 0
        self._lock = threading.Lock()
        self._closed = False

    def write(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, mmap.mmap]:
        """Write a batch and return it as mapped from the file, with its mapping. Raises ``OSError``."""
        message = batch.serialize()
        with self._lock:
            if self._closed:
                raise OSError("the put has ended")
            with self._path.open("a+b") as file:
                # A write that failed half way may have left the end of the file anywhere; a mapping starts at a page.
                offset = -(-file.seek(0, os.SEEK_END) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
                file.truncate(offset)
                file.write(message)
                file.flush()
                mapping = mmap.mmap(file.fileno(), message.size, offset=offset, access=mmap.ACCESS_READ)
            self._count(offset + message.size)
        return pa.ipc.read_record_batch(pa.py_buffer(mapping), batch.schema), mapping

    def close(self) -> None:
        """Remove the file. Batches that are still mapped stay readable."""
        with self._lock:
            self._closed = True
            self._path.unlink(missing_ok=True)
            self._count(0)

    def _count(self, size: int) -> None:
        self._room.spilled(size - self._bytes)
        self._bytes = size
