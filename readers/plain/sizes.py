"""How much memory a column takes once it is plain, told without making it so.

A few bytes can stand for gigabytes: a long value in a dictionary, a run of a billion, views of one text, lists of
nulls. So sizes are sums over the encoded form. They are estimates for limits and shares, not exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from readers.plain.types import LIST_VIEWS, NESTED, VIEWS, is_plain
from timestore.digest.selection import dictionary_rows, numbers

# Of the first n values of an array, for each n asked for. Floats, because hostile run ends multiply beyond integers.
Sums = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.floating]]

_SLOT = 8  # what a value counts for besides its bytes: its number while it is decoded, or its place in a list
_OFFSETS = {
    pa.lib.Type_STRING: "<i4",
    pa.lib.Type_BINARY: "<i4",
    pa.lib.Type_LIST: "<i4",
    pa.lib.Type_MAP: "<i4",
    pa.lib.Type_LARGE_STRING: "<i8",
    pa.lib.Type_LARGE_BINARY: "<i8",
    pa.lib.Type_LARGE_LIST: "<i8",
}


class TooLongError(Exception):
    """A column has more values than bytes are allowed for all of them."""


def plain_bytes(batch: pa.RecordBatch | pa.Table, *, limit: int | None = None) -> int:
    """Return about how many bytes valid rows take once they are plain.

    Raises ``TooLongError`` if some array has more than ``limit`` values; nothing of that length was made then.
    """
    return sum(_column_bytes(column, limit) for column in batch.columns)


def _column_bytes(column: pa.Array | pa.ChunkedArray, limit: int | None) -> int:
    if limit is not None and len(column) > limit:
        raise TooLongError
    if column.type.id not in NESTED and column.type.id != pa.lib.Type_NA and is_plain(column.type):
        size: int = column.nbytes
        return size
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return sum(int(min(float(_sums(chunk, limit)(np.array([len(chunk)]))[0]), 2.0**62)) for chunk in chunks)


def _sums(array: pa.Array, limit: int | None) -> Sums:
    if limit is not None and len(array) > limit:
        raise TooLongError
    kind = array.type.id
    if isinstance(array.type, pa.BaseExtensionType):
        return _sums(array.storage, limit)
    if kind == pa.lib.Type_DICTIONARY:
        return _dictionary_sums(array, limit)
    if kind == pa.lib.Type_RUN_END_ENCODED:
        return _run_sums(array, limit)
    if kind in VIEWS:
        lengths = numbers(array, "V16").view("<u4")[::4] if len(array) else np.empty(0)
        return _running(lengths + float(_SLOT))
    if kind == pa.lib.Type_STRUCT:
        parts = [_sums(array.field(position), limit) for position in range(array.type.num_fields)]
        return lambda ends: sum((part(ends) for part in parts), ends / 8.0)
    if kind == pa.lib.Type_FIXED_SIZE_LIST:
        return _fixed_list_sums(array, limit)
    if kind in LIST_VIEWS:
        return _list_view_sums(array, limit)
    if kind in _OFFSETS:
        return _offset_sums(array, limit)
    width = 0 if kind == pa.lib.Type_NA else max(1, array.type.bit_width // 8)
    return lambda ends: ends * float(width or _SLOT)


def _running(sizes: npt.NDArray[Any]) -> Sums:
    def total(ends: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        if ends.tolist() == [len(sizes)]:  # all that a column of its own is asked for
            return np.array([sizes.sum(dtype=np.float64)])
        return np.concatenate(([0.0], np.cumsum(sizes, dtype=np.float64)))[ends]

    return total


def _dictionary_sums(array: pa.Array, limit: int | None) -> Sums:
    values = _sums(array.dictionary, limit)(np.arange(len(array.dictionary) + 1))
    sizes = np.append(np.maximum(np.diff(values), _SLOT), _SLOT)  # the last one is for -1: nulls
    return _running(sizes.take(dictionary_rows(array.indices, None)))


def _run_sums(array: pa.Array, limit: int | None) -> Sums:
    ends = numbers(array.run_ends.cast(pa.int64()), "<i8") if len(array.run_ends) else np.zeros(0, np.int64)
    values = _sums(array.values, limit)(np.arange(len(ends) + 1))
    each = np.append(np.maximum(np.diff(values), _SLOT), 0.0)
    starts = np.concatenate(([0], ends))
    before = np.concatenate(([0.0], np.cumsum(np.diff(starts) * each[:-1])))

    def total(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        at = rows + array.offset
        run = np.searchsorted(ends, at, side="right")
        sums: npt.NDArray[np.floating] = before[run] + (at - starts[run]) * each[run]
        return sums

    first = total(np.array([0]))
    return lambda rows: total(rows) - first


def _fixed_list_sums(array: pa.Array, limit: int | None) -> Sums:
    size = array.type.list_size
    items = _sums(array.values.slice(array.offset * size, len(array) * size), limit)
    return lambda ends: items(ends * size) + ends * float(_SLOT)


def _list_view_sums(array: pa.Array, limit: int | None) -> Sums:
    if not len(array):
        return lambda ends: ends * 0.0
    dtype = "<i8" if array.type.id == pa.lib.Type_LARGE_LIST_VIEW else "<i4"
    starts = numbers(array, dtype).astype(np.int64)
    lengths = numbers(array, dtype, buffer=2).astype(np.int64)
    items = _sums(array.values, limit)
    return _running(items(starts + lengths) - items(starts) + _SLOT)


def _offset_sums(array: pa.Array, limit: int | None) -> Sums:
    """Sum up texts, lists and maps, whose items lie on end."""
    if not len(array):
        return lambda ends: ends * 0.0
    offsets = numbers(array, _OFFSETS[array.type.id], extra=1).astype(np.int64)
    parts = [_sums(child, limit) for child in _items(array)]
    if not parts:
        return lambda ends: (offsets[ends] - offsets[0]) + ends * float(_SLOT)
    first = [part(offsets[:1]) for part in parts]
    return lambda ends: sum(
        (part(offsets[ends]) - start for part, start in zip(parts, first, strict=True)), ends * float(_SLOT)
    )


def _items(array: pa.Array) -> list[pa.Array]:
    if array.type.id == pa.lib.Type_MAP:
        return [array.keys, array.items]
    return [array.values] if array.type.id in NESTED else []
