"""Room in staging: what finished files that wait for their upload, and spilled rows, may take of the disk together.

A full staging area slows clients down and fails nobody. Two rules keep it from standing still: one file may always be
staged, and spilled rows, which stay until their put ends, get half of the room at most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

SPILL_SHARE = 2  # spilled rows take at most this part of the room, and what is spilled at once beyond it
LOOK_AGAIN_S = 1.0  # whether a file is still wanted, while it waits for room


class StagingRoom:
    """Counts the bytes in staging. Thread safe."""

    def __init__(self, *, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._condition = threading.Condition()
        self._files_bytes = 0
        self._spilled_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Return what is staged now, and what is reserved for files that are being written."""
        return self._files_bytes + self._spilled_bytes

    def take(self, size: int, *, is_wanted: Callable[[], bool]) -> Place | None:
        """Wait until a file of so many bytes may be staged; None if it is not wanted any more before that.

        Files leave by their uploads, each of which ends within a time, so every wait ends.
        """
        with self._condition:
            while self._files_bytes and self.used_bytes + size > self.limit_bytes:
                if not is_wanted():
                    return None
                self._condition.wait(LOOK_AGAIN_S)
            self._files_bytes += size
        return Place(room=self, size=size)

    def may_spill(self) -> bool:
        """Say whether rows may be spilled. If not, they are written to files before their time."""
        return self._spilled_bytes * SPILL_SHARE < self.limit_bytes

    def spilled(self, size: int) -> None:
        """Count rows that were spilled; a negative size takes them off."""
        with self._condition:
            self._spilled_bytes += size
            self._condition.notify_all()

    def change(self, change: int) -> None:
        """Let a staged file take more or less room."""
        with self._condition:
            self._files_bytes += change
            self._condition.notify_all()


class Place:
    """The room of one file. Given back once, whoever does it."""

    def __init__(self, *, room: StagingRoom, size: int) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._size = size

    def resize(self, size: int) -> None:
        """Take as much as the file turned out to have."""
        with self._lock:
            self._room.change(size - self._size)
            self._size = size

    def give_back(self) -> None:
        """Take nothing any more."""
        self.resize(0)
