"""Reading an object as a file: ranges of it, when they are asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

READ_BYTES = 4 << 20  # of one request, unless more is asked for at once


class RangedReader(io.RawIOBase):
    """A raw file over ``read(start, size)``. Its object never changes, so its size is known for good."""

    def __init__(self, *, size: int, read: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._read = read
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a file has no place before its beginning")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readall(self) -> bytes:
        """Read the rest in large ranges; what ``io`` has for it asks for 8 KiB at a time."""
        return b"".join(iter(lambda: self.read(READ_BYTES), b""))

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        size = min(len(view), self._size - self._at, 2 * READ_BYTES)
        if size <= 0:
            return 0
        content = self._read(self._at, size)
        view[: len(content)] = content
        self._at += len(content)
        return len(content)
