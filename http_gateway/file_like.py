"""What Arrow asks of a file beside ``read``, for bodies that it reads as one."""

from __future__ import annotations


class FileLike:
    """Readable once, front to back."""

    closed = False

    def close(self) -> None:
        """Do nothing: the body belongs to the request."""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False
