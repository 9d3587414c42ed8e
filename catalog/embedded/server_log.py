"""The file that Postgres and initdb write to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_LIMIT_BYTES = 4 << 20
_KEPT_BYTES = 64 << 10
_TAIL_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLog:
    """A log of bounded size. Postgres appends; we only cut, which is safe because its descriptor is in append mode."""

    path: Path

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Give a descriptor for children to inherit; ours is closed on the way out."""
        descriptor = self._open()
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """Return the bytes in the file, zero if there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def keep_bounded(self) -> None:
        """Cut a log beyond its limit down to its end. Lines written at that very moment may be lost."""
        if self.size() > _LIMIT_BYTES:
            with suppress(OSError):  # a full disk, say: no reason to disturb who asks about Postgres
                self._cut()

    def _cut(self) -> None:
        end = self._read_end(since=0)
        os.truncate(self.path, 0)
        descriptor = self._open()
        try:
            os.write(descriptor, end)
        finally:
            os.close(descriptor)

    def tail(self, *, since: int) -> str:
        """Return the last lines written after the offset ``since``."""
        lines = self._read_end(since=since).decode(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def _read_end(self, *, since: int) -> bytes:
        try:
            with self.path.open("rb") as log:
                log.seek(max(since, self.size() - _KEPT_BYTES))
                return log.read()
        except FileNotFoundError:
            return b""

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
