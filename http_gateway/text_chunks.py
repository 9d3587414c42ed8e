"""Text rows in chunks that end with a row: as much as is worth parsing at once, and no more in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from http_gateway.encodings import Source
from timestore.errors import error

CHUNK_BYTES = 1 << 20
MAX_ROW_BYTES = 4 << 20

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChunk:
    """Some rows, each on a line of its own."""

    lines: bytes
    is_whole: bool = False  # whether the whole body is in it
    has_rows: bool = True  # False: not even an empty one


def line_chunks(
    source: Source,
    *,
    last_end: Callable[[bytes], int] = lambda text: text.rfind(b"\n"),
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[TextChunk]:
    """Yield a body in chunks of whole rows, at least one; raises ``batch_too_large`` for a row that is too long.

    ``last_end`` finds where the last row of a text ends, -1 if none does. The last row needs no end.
    """
    rest, is_first = b"", True
    while True:
        data = source.read(chunk_bytes)
        is_last = len(data) < chunk_bytes
        text = rest + data
        if is_last:
            yield TextChunk(lines=text, is_whole=is_first)
            return
        end = last_end(text) + 1
        if end:
            yield TextChunk(lines=text[:end])
            is_first = False
        rest = text[end:]
        check_row_size(len(rest))


def check_row_size(size: int) -> None:
    if size > MAX_ROW_BYTES:
        raise error(
            "batch_too_large",
            f"a row has more than {MAX_ROW_BYTES} bytes of text; send shorter rows, or Arrow",
            details={"bytes": size, "limit": MAX_ROW_BYTES},
        )


def bytes_of(text: bytes | bytearray) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text, dtype=np.uint8)


def inside_json_strings(text: npt.NDArray[np.uint8]) -> Mask:
    """Say of each byte of JSON whether it is in a string, its opening quote included. It begins outside of strings."""
    quotes = text == ord('"')
    if (backslashes := text == ord("\\")).any():
        quotes &= ~_escaped(backslashes)
    inside: Mask = np.bitwise_xor.accumulate(quotes.view(np.uint8)).view(np.bool_)
    return inside


def depths(text: npt.NDArray[np.uint8], outside: Mask) -> npt.NDArray[np.int32]:
    """Say of each byte of JSON in how many brackets it is; an opening one is in itself, a closing one is not."""
    opening = ((text == ord("{")) | (text == ord("["))) & outside
    closing = ((text == ord("}")) | (text == ord("]"))) & outside
    return np.cumsum(opening.view(np.int8) - closing.view(np.int8), dtype=np.int32)


def _escaped(backslashes: Mask) -> Mask:
    """Say of each byte whether an odd number of backslashes stands before it."""
    places = np.arange(len(backslashes), dtype=np.int64)
    last_other = np.maximum.accumulate(np.where(backslashes, -1, places))
    run = places - last_other  # of backslashes up to each byte
    escaped = np.zeros(len(backslashes), dtype=np.bool_)
    escaped[1:] = (run[:-1] & 1).astype(np.bool_)
    return escaped
