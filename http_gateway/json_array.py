"""A JSON array of rows, of any length, in chunks: its elements, each brought onto a line of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from http_gateway.encodings import Source
from http_gateway.text_chunks import CHUNK_BYTES, TextChunk, bytes_of, check_row_size, depths, inside_json_strings
from timestore.errors import TimestoreError, error

_SPACE = b" \t\r\n"


def array_chunks(source: Source, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[TextChunk]:
    """Yield the elements of an array in chunks, at least one. The source begins after its ``[``.

    Raises ``batch_invalid`` if it is not one array and nothing else, ``batch_too_large`` for too long an element.
    """
    rest, is_first = b"", True
    while True:
        data = source.read(chunk_bytes)
        is_last = len(data) < chunk_bytes
        piece = _Piece(rest + data)
        if piece.end is not None:
            last = piece.lines(piece.end)
            _check_end(piece.text[piece.end + 1 :], source, is_last)
            has_rows = not is_first or b"\n" in last or bool(last.strip(_SPACE))
            yield TextChunk(lines=last if has_rows else b"", is_whole=is_first, has_rows=has_rows)
            return
        if is_last:
            raise _invalid("the JSON array has no end")
        if piece.commas.size:
            cut = int(piece.commas[-1])
            yield TextChunk(lines=piece.lines(cut))
            is_first = False
            rest = piece.text[cut + 1 :]
        else:
            rest = piece.text
        check_row_size(len(rest))


class _Piece:
    """Text from within an array, that begins with an element."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._bytes = bytes_of(text)
        self._inside = inside_json_strings(self._bytes)
        outside = ~self._inside
        depth = depths(self._bytes, outside)
        ends = np.flatnonzero(depth < 0)
        self.end: int | None = int(ends[0]) if ends.size else None  # of the array
        if self.end is not None and text[self.end] != ord("]"):
            raise _invalid("the JSON array ends with another bracket")
        commas = np.flatnonzero((self._bytes == ord(",")) & outside & (depth == 0))
        self.commas = commas if self.end is None else commas[commas < self.end]

    def lines(self, end: int) -> bytes:
        """Return the elements before a place, each on its own line."""
        text = self._bytes[:end].copy()
        breaks = ((text == ord("\n")) | (text == ord("\r"))) & ~self._inside[:end]
        text[breaks] = ord(" ")
        text[self.commas[self.commas < end]] = ord("\n")
        return text.tobytes()


def _check_end(rest: bytes, source: Source, is_last: bool) -> None:
    while True:
        if rest.strip(_SPACE):
            raise _invalid("there is something after the JSON array")
        if is_last:
            return
        rest = source.read(CHUNK_BYTES)
        is_last = len(rest) < CHUNK_BYTES


def _invalid(problem: str) -> TimestoreError:
    return error("batch_invalid", f"{problem}; send one array of rows, or one row a line as application/x-ndjson")
