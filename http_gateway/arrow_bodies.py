"""Bodies of Arrow IPC: a stream, or a file, which is a stream between two marks. Read message by message."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from http_gateway.encodings import Source
from http_gateway.file_like import FileLike
from http_gateway.rows import Rows
from timestore.errors import TimestoreError, error
from writers.validation import MESSAGE_OVERHEAD_BYTES

FILE_MARK = b"ARROW1"
_FILE_HEAD_BYTES = 8  # the mark, and zeros up to the next message
_END = b"\0\0\0\0"  # no more messages: what Arrow reads last, before it says so itself
_CHUNK_BYTES = 1 << 16


def open_arrow(source: Source, *, max_batch_bytes: int) -> Rows:
    """Open a stream or a file; raises ``batch_invalid``, and ``batch_too_large`` before a message is in memory."""
    messages = _Messages(source, max_message_bytes=max_batch_bytes + MESSAGE_OVERHEAD_BYTES)
    try:
        reader = pa.ipc.open_stream(pa.PythonFile(messages, mode="r"))
        schema = reader.schema
        schema.names  # noqa: B018  # raises on names that are not UTF-8
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise _invalid(str(exc)) from exc
    return Rows(schema=schema, batches=_batches(reader, messages))


def _batches(reader: pa.RecordBatchStreamReader, messages: _Messages) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            messages.check_end()
            return
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise _invalid(str(exc)) from exc
        yield batch


class _Messages(FileLike):
    """The messages of a body, for Arrow to read; remembers how they ended."""

    def __init__(self, source: Source, *, max_message_bytes: int) -> None:
        self._source = source
        self._max_message_bytes = max_message_bytes
        self._head = source.read(_FILE_HEAD_BYTES)
        self._is_file = self._head.startswith(FILE_MARK)
        if self._is_file:
            self._head = b""
        self._last = b""

    def read(self, size: int) -> bytes:
        if size > self._max_message_bytes:
            raise error(
                "batch_too_large",
                f"a message of {size} bytes is announced, at most {self._max_message_bytes} are allowed; send smaller "
                "batches (16 to 64 Ki rows are quickest)",
                details={"bytes": size, "limit": self._max_message_bytes},
            )
        piece, self._head = self._head[:size], self._head[size:]
        if len(piece) < size:
            piece += self._source.read(size - len(piece))
        self._last = piece if len(piece) <= len(_END) else b""
        return piece

    def check_end(self) -> None:
        """See to it that the last message said it was the last, and that nothing but a file's end came after it."""
        if self._last != _END:
            raise _invalid("it ends without the end-of-stream marker, so it may be incomplete")
        rest = self._head
        while piece := self._source.read(_CHUNK_BYTES):
            rest = (rest + piece)[-_CHUNK_BYTES:]
        if rest and not (self._is_file and rest.endswith(FILE_MARK)):
            raise _invalid("there is something after its end")
        if self._is_file and not rest:
            raise _invalid("the file has no end")


def _invalid(problem: str) -> TimestoreError:
    return error("batch_invalid", f"the body is not a whole and valid Arrow IPC stream or file: {problem}")
