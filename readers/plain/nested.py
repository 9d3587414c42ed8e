"""Nested plain columns taken apart and put together: one way for all of them, whatever is done to their children."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from readers.plain.assembling import Offsets, Opened, assemble
from readers.plain.decoding import take_rows
from timestore.digest.selection import item_rows, numbers, validity


def open_nested(array: pa.Array) -> Opened:
    """Take a plain nested array apart."""
    valid = validity(array, None)
    kind = array.type.id
    if kind == pa.lib.Type_STRUCT:
        return Opened(rows=len(array), valid=valid, offsets=None, children=array.flatten())
    if kind == pa.lib.Type_FIXED_SIZE_LIST:
        return Opened(rows=len(array), valid=valid, offsets=None, children=[_fixed_items(array, valid)])
    starts, lengths = _extents(array, valid)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    children = [array.keys, array.items] if kind == pa.lib.Type_MAP else [array.values]
    held = [_items(child, starts, lengths, int(offsets[-1])) for child in children]
    return Opened(rows=len(array), valid=valid, offsets=offsets, children=held)


def build_nested(type_: pa.DataType, opened: Opened, children: Sequence[pa.Array]) -> pa.Array:
    """Put an array of a plain nested type together from what ``open_nested`` gave, with other children."""
    return assemble(type_, opened, slots(type_, opened, children))


def slots(type_: pa.DataType, opened: Opened, children: Sequence[pa.Array]) -> list[pa.Array]:
    """Return plain children as Arrow's layout wants them: null lists of a fixed size have items too, nulls here."""
    if type_.id != pa.lib.Type_FIXED_SIZE_LIST or opened.valid is None:
        return list(children)
    held = np.repeat(opened.valid, type_.list_size)
    return [take_rows(children[0], np.where(held, np.cumsum(held) - 1, -1))]


def _extents(array: pa.Array, valid: npt.NDArray[np.bool_] | None) -> tuple[Offsets, Offsets]:
    """Return where each list starts and how many items it has: none if it is null."""
    if not len(array):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    offsets = numbers(array, "<i8" if array.type.id == pa.lib.Type_LARGE_LIST else "<i4", extra=1).astype(np.int64)
    lengths = np.diff(offsets)
    return offsets[:-1], lengths if valid is None else np.where(valid, lengths, 0)


def _items(child: pa.Array, starts: Offsets, lengths: Offsets, total: int) -> pa.Array:
    """Return the items of lists; they lie on end unless a null list has some."""
    if not total:
        return child.slice(0, 0)
    held = np.flatnonzero(lengths)
    first, last = int(starts[held[0]]), int(starts[held[-1]] + lengths[held[-1]])
    if last - first == total:
        return child.slice(first, total)
    return take_rows(child, item_rows(starts, lengths))


def _fixed_items(array: pa.Array, valid: npt.NDArray[np.bool_] | None) -> pa.Array:
    size = array.type.list_size
    items = array.values.slice(array.offset * size, len(array) * size)
    if valid is None:
        return items
    return take_rows(items, np.flatnonzero(np.repeat(valid, size)))
