"""What ``Content-Encoding`` says: bytes out of gzip or zstd, piece by piece, so that a bomb takes no memory."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from http_gateway.body import BodyPipe
from http_gateway.file_like import FileLike
from timestore.errors import TimestoreError, error

ENCODINGS = ("gzip", "zstd")
MAX_ZSTD_WINDOW_BYTES = 8 << 20  # what RFC 9659 allows for HTTP
_ZSTD_HEAD_BYTES = 6
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SINGLE_SEGMENT = 0x20


class Source(Protocol):
    """Bytes that are read like a file."""

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer only at a proper end; raises if it ends otherwise."""


def decoded(pipe: BodyPipe, encoding: str) -> Source:
    """Return the body without its encoding; raises ``unsupported`` for one that nobody knows here."""
    match encoding.strip().lower():
        case "" | "identity":
            return pipe
        case "gzip" | "x-gzip":
            return _Decompressed(pipe, "gzip")
        case "zstd":
            return _Decompressed(pipe, "zstd")
    raise error(
        "unsupported",
        f"the Content-Encoding {encoding[:40]!a} is not one of {', '.join(ENCODINGS)}",
        details={"content_encoding": encoding},
    )


class _Decompressed:
    """Decompresses as it is read, and sees to it that the compressed stream has its end."""

    def __init__(self, pipe: BodyPipe, codec: str) -> None:
        self._pipe = pipe
        self._codec = codec
        self._stream: pa.CompressedInputStream | None = None

    def read(self, size: int) -> bytes:
        try:
            if self._stream is None:
                self._stream = self._open()
            data: bytes = self._stream.read(size)
            while len(data) < size and (more := self._stream.read(size - len(data))):
                data += more  # Arrow may give less at once, and less means the end here
        except OSError as exc:
            raise self._invalid(str(exc)) from exc
        return data

    def _open(self) -> pa.CompressedInputStream:
        head = self._pipe.read(_ZSTD_HEAD_BYTES)
        if not head:
            raise self._invalid("it is empty")
        if self._codec == "zstd" and zstd_window_bytes(head) > MAX_ZSTD_WINDOW_BYTES:
            raise self._invalid(f"its window is larger than {MAX_ZSTD_WINDOW_BYTES} bytes; compress with a smaller one")
        return pa.CompressedInputStream(pa.PythonFile(Prefixed(head, self._pipe), mode="r"), self._codec)

    def _invalid(self, reason: str) -> TimestoreError:
        return error("batch_invalid", f"the body is not whole and valid {self._codec}: {reason}")


def zstd_window_bytes(head: bytes) -> int:
    """Return the window that a frame asks for; 0 where the frame itself is its window, or this is none."""
    if len(head) < _ZSTD_HEAD_BYTES or head[:4] != _ZSTD_MAGIC or head[4] & _ZSTD_SINGLE_SEGMENT:
        return 0
    exponent, mantissa = head[5] >> 3, head[5] & 7
    base = 1 << (10 + exponent)
    return base + base // 8 * mantissa


class Prefixed(FileLike):
    """A source of which the first bytes have been read already."""

    def __init__(self, head: bytes, rest: Source) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        piece, self._head = self._head[:size], self._head[size:]
        return piece + self._rest.read(size - len(piece)) if len(piece) < size else piece
