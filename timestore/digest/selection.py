"""Which values of an Arrow array count, as row numbers, without building the array that holds only those.

A *selection* is None (every row in order) or an integer array of row numbers relative to the array's own offset. A
negative number selects a null. Dictionaries and run ends are selections from their values, and so are the children of
the valid parents; composing selections decodes any nesting of them without a kernel for each (pyarrow has none for
many: ``take`` and ``filter`` know neither views nor run ends).

Arrays must be valid in the sense of ``validate(full=True)``: row numbers are read from their buffers.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[Any]
Selection = Numbers | None

_EXTENSION = pa.bool8().id  # any extension has it; pyarrow gives it no name
_DICTIONARY = pa.lib.Type_DICTIONARY
_RUN_END_ENCODED = pa.lib.Type_RUN_END_ENCODED
_INDEX_DTYPES = {
    pa.int8().id: "<i1",
    pa.int16().id: "<i2",
    pa.int32().id: "<i4",
    pa.int64().id: "<i8",
    pa.uint8().id: "<u1",
    pa.uint16().id: "<u2",
    pa.uint32().id: "<u4",
    pa.uint64().id: "<u8",
}

# Bounds what one gather copies or counts: a dictionary of one long value must not expand to gigabytes at once, nor
# overflow the 32-bit offsets of a gathered string array.
GATHER_LIMIT = 1 << 26


def decoded(array: pa.Array, rows: Selection) -> tuple[pa.Array, Selection]:
    """Take extensions, dictionaries and run ends off: return the plain array beneath and the rows of it selected."""
    while True:
        kind = array.type.id
        if kind == _EXTENSION:
            array = array.storage
        elif kind == _DICTIONARY:
            array, rows = array.dictionary, dictionary_rows(array.indices, rows)
        elif kind == _RUN_END_ENCODED:
            array, rows = array.values, _run_rows(array, rows)
        else:
            return array, rows


def dictionary_rows(indices: pa.Array, rows: Selection) -> Numbers:
    """Return the selected rows' places in their dictionary, -1 for a null index."""
    if not len(indices):
        return np.full(0 if rows is None else len(rows), -1)
    index = numbers(indices, _INDEX_DTYPES[indices.type.id])
    if indices.null_count:
        # What lies in the slot of a null index is arbitrary and may be out of range.
        index = np.where(_bits(indices, 0), index.astype("i8"), -1)
    return index if rows is None else _through(index, rows)


def _through(index: Numbers, rows: Numbers) -> Numbers:
    picked = rows >= 0
    out = np.full(len(rows), -1)
    out[picked] = index[rows[picked]]
    return out


def _run_rows(array: pa.Array, rows: Selection) -> Numbers:
    if not len(array):
        return np.full(0 if rows is None else len(rows), -1)
    run_ends, first, last = array.run_ends, array.offset, array.offset + len(array)
    ends = numbers(run_ends, _INDEX_DTYPES[run_ends.type.id])
    lengths = np.diff(np.clip(ends.astype("i8"), first, last), prepend=first)
    index = np.repeat(np.arange(len(ends)), lengths)
    return index if rows is None else _through(index, rows)


def validity(array: pa.Array, rows: Selection) -> npt.NDArray[np.bool_] | None:
    """Return which of the selected rows are valid, or None if all are. The array must be decoded."""
    valid = _bits(array, 0) if array.null_count else None
    if rows is None:
        return valid
    picked: npt.NDArray[np.bool_] = rows >= 0
    if valid is not None:
        picked[picked] = valid[rows[picked]]
    return None if picked.all() else picked


def booleans(array: pa.Array) -> Numbers:
    """Return a non-empty boolean array's value bits as one byte each, 0 or 1."""
    return _bits(array, 1).view("u1")


def _bits(array: pa.Array, buffer: int) -> npt.NDArray[np.bool_]:
    start, shift = divmod(array.offset, 8)
    packed = np.frombuffer(array.buffers()[buffer], "u1")[start:]
    bits = np.unpackbits(packed, count=shift + len(array), bitorder="little")
    return bits[shift:].view(np.bool_)


def numbers(array: pa.Array, dtype: str, *, buffer: int = 1, extra: int = 0) -> Numbers:
    """View a buffer that has one ``dtype`` per row (plus ``extra`` at the end), from the array's offset on."""
    width = np.dtype(dtype).itemsize
    return np.frombuffer(array.buffers()[buffer], dtype, len(array) + extra, array.offset * width)


def item_rows(starts: Numbers, lengths: Numbers) -> Numbers:
    """Return the child rows of lists: ``lengths[i]`` numbers counting up from ``starts[i]``, for each list in turn."""
    lengths = lengths.astype("i8")
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def portions(lengths: Numbers) -> Iterator[slice]:
    """Cut rows of these lengths into runs of at most GATHER_LIMIT in total, or of one row that is longer alone."""
    if not len(lengths) or len(lengths) * int(lengths.max()) <= GATHER_LIMIT:  # surely; saves the sums
        yield slice(0, len(lengths))
        return
    ends = np.cumsum(lengths, dtype="i8")
    if ends[-1] <= GATHER_LIMIT:
        yield slice(0, len(ends))
        return
    cuts = [0]
    while cuts[-1] < len(ends):
        done = ends[cuts[-1] - 1] if cuts[-1] else 0
        cuts.append(max(cuts[-1] + 1, int(np.searchsorted(ends, done + GATHER_LIMIT, side="right"))))
    yield from (slice(start, stop) for start, stop in pairwise(cuts))
