"""Bodies that cannot be read front to back: kept on the staging disk, in files without names, until they are read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from http_gateway.body import BodyPipe
from http_gateway.encodings import Source
from timestore.errors import TimestoreError, error
from writers.staging_room import StagingRoom

COPY_BYTES = 1 << 20
RETRY_AFTER_S = 5.0


class Spool:
    """Copies bodies to disk. Thread safe."""

    def __init__(self, *, directory: Path, room: StagingRoom) -> None:
        self._directory = directory
        self._room = room

    @contextmanager
    def copy(
        self, source: Source, head: bytes, pipe: BodyPipe, *, limit_bytes: int | None = None
    ) -> Iterator[IO[bytes]]:
        """Copy a body that begins with ``head``, and lend the file, at its beginning.

        Raises ``disk_full``, ``batch_too_large`` if it can never have room, and ``overloaded`` if it has none now.
        """
        limit_bytes = min(limit_bytes or self._room.limit_bytes, self._room.limit_bytes)
        size = 0
        try:
            with self._open() as file:
                data = head or source.read(COPY_BYTES)
                while data:
                    self._room.spilled(len(data))
                    size += len(data)
                    self._check_room(size, limit_bytes)
                    _write(file, data)
                    pipe.went_on()
                    data = source.read(COPY_BYTES)
                file.seek(0)
                yield file
        finally:
            self._room.spilled(-size)

    def _open(self) -> IO[bytes]:
        try:
            return tempfile.TemporaryFile(dir=self._directory)
        except OSError as exc:
            raise _disk_full(exc) from exc

    def _check_room(self, size: int, limit: int) -> None:
        if size > limit:
            raise error(
                "batch_too_large",
                f"such a body may have {limit} bytes; send it in parts, as an Arrow stream or as application/x-ndjson",
                details={"limit": limit},
            )
        if self._room.used_bytes > self._room.limit_bytes:
            raise error(
                "overloaded",
                f"the staging disk has no room for this body now, {self._room.used_bytes} bytes are in use; try again "
                "shortly",
                details={"limit": self._room.limit_bytes},
                retry_after_s=RETRY_AFTER_S,
            )


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as exc:
        raise _disk_full(exc) from exc


def _disk_full(exc: OSError) -> TimestoreError:
    return error("disk_full", f"the staging disk does not take the body ({exc.strerror}); free space there")
