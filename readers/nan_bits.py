"""NaNs that are not the usual one, kept beside the rows.

A float's bits count: NaNs carry signs and payloads, and 0/0 is a negative one on x86. But where all values of a row
group are NaN, DuckDB stores one constant and gives back its own NaN. So a file says the bits of every NaN that is not
DuckDB's, and reads put them back. Nearly every file has none.

Floats inside lists, maps and structs are found by their path, and by their position: the index among the values at that
path in the whole file, where a list adds the items of its valid lists alone, and a struct's field has a value for each
of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from readers.plain.nested import build_nested, open_nested
from readers.plain.types import NESTED, child_fields
from timestore.digest.selection import numbers, validity

Path = tuple[int, ...]  # which child of each nested type on the way: of a map 0 is the keys, 1 the values

_USUAL: dict[pa.DataType, np.unsignedinteger[Any]] = {
    pa.float32(): np.uint32(0x7FC0_0000),
    pa.float64(): np.uint64(0x7FF8_0000_0000_0000),
}

ENTRY_TYPE = pa.struct(
    [("column", pa.string()), ("path", pa.list_(pa.int32())), ("position", pa.int64()), ("bits", pa.uint64())]
)


@dataclass(frozen=True, slots=True)
class UnusualNans:
    """The unusual NaNs at one path."""

    positions: npt.NDArray[np.int64]  # ascending
    bits: npt.NDArray[np.uint64]


ColumnNans = dict[Path, UnusualNans]


def find_unusual_nans(table: pa.Table) -> pa.Array:
    """Return an ``ENTRY_TYPE`` array with every NaN of a table of plain columns that DuckDB could change."""
    found = [pa.array([], ENTRY_TYPE)]
    for field, column in zip(table.schema, table.columns, strict=True):
        if _has_floats(field.type):
            passed: dict[Path, int] = {}
            for chunk in column.chunks:
                found.extend(_entries(field.name, chunk, passed))
    return pa.concat_arrays(found)


def _has_floats(type_: pa.DataType) -> bool:
    return type_ in _USUAL or (type_.id in NESTED and any(_has_floats(field.type) for field in child_fields(type_)))


def group_by_column(entries: pa.Array) -> dict[str, ColumnNans]:
    """Arrange what ``find_unusual_nans`` found for reading."""
    grouped: dict[str, ColumnNans] = {}
    if not len(entries):
        return grouped
    if entries.type.get_field_index("row") >= 0:
        entries = _of_format_1(entries)
    names, paths = entries.field("column"), entries.field("path")
    keys = pa.array([f"{name}\0{path}" for name, path in zip(names.to_pylist(), paths.to_pylist(), strict=True)])
    for key in keys.unique():
        mine = entries.filter(pc.equal(keys, key))
        path = tuple(mine.field("path")[0].as_py())
        grouped.setdefault(mine.field("column")[0].as_py(), {})[path] = UnusualNans(
            numbers(mine.field("position"), "<i8"), numbers(mine.field("bits"), "<u8")
        )
    return grouped


def _of_format_1(entries: pa.Array) -> pa.Array:
    """Respell the entries of a file of format 1: by row, for there were no nested columns."""
    paths = pa.array([[]] * len(entries), pa.list_(pa.int32()))
    columns = [entries.field("column"), paths, entries.field("row"), entries.field("bits")]
    return pa.StructArray.from_arrays(columns, fields=list(ENTRY_TYPE))


class NanRestorer:
    """Puts the bits back into one column, batch by batch in the order of the file."""

    def __init__(self, nans: ColumnNans) -> None:
        self._nans = nans
        self._passed = dict.fromkeys(nans, 0)  # values before the next batch, by path

    def restore(self, array: pa.Array) -> pa.Array:
        """Return the next rows of the column with the bits that their floats had."""
        for path in self._nans:
            array = self._restored(array, path, path)
        return array

    def _restored(self, array: pa.Array, way: Path, path: Path) -> pa.Array:
        if way:
            opened = open_nested(array)
            children = list(opened.children)
            children[way[0]] = self._restored(children[way[0]], way[1:], path)
            return build_nested(array.type, opened, children)
        first = self._passed[path]
        self._passed[path] = first + len(array)
        return _with_bits(array, self._nans[path], first)


def _with_bits(array: pa.Array, nans: UnusualNans, first: int) -> pa.Array:
    low, high = np.searchsorted(nans.positions, [first, first + len(array)])
    if low == high:
        return array
    bits = numbers(array, _USUAL[array.type].dtype.str).copy()
    bits[nans.positions[low:high] - first] = nans.bits[low:high]
    valid = validity(array, None)
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(array.type, len(array), [bitmap, pa.py_buffer(bits)])


def _entries(name: str, chunk: pa.Array, passed: dict[Path, int]) -> Iterator[pa.Array]:
    for path, leaf in _float_leaves(chunk, ()):
        first = passed.get(path, 0)
        passed[path] = first + len(leaf)
        positions, bits = _unusual(leaf)
        if count := len(positions):
            steps = pa.array(path * count, pa.int32())
            paths = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * len(path), steps)
            columns = [pa.repeat(name, count), paths, pa.array(positions + first), pa.array(bits.astype(np.uint64))]
            yield pa.StructArray.from_arrays(columns, fields=list(ENTRY_TYPE))


def _float_leaves(array: pa.Array, path: Path) -> Iterator[tuple[Path, pa.Array]]:
    if array.type in _USUAL:
        yield path, array
    elif _has_floats(array.type):
        for position, child in enumerate(open_nested(array).children):
            yield from _float_leaves(child, (*path, position))


def _unusual(leaf: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Return where the unusual NaNs of a float array are, and their bits."""
    usual = _USUAL[leaf.type]
    if not len(leaf):
        return np.empty(0, np.int64), np.empty(0, usual.dtype)
    bits = numbers(leaf, usual.dtype.str)
    nan = np.isnan(bits.view(f"f{usual.dtype.itemsize}"))
    if not nan.any():
        return np.empty(0, np.int64), np.empty(0, usual.dtype)
    unusual = nan & (bits != usual)
    valid = validity(leaf, None)
    at = np.flatnonzero(unusual if valid is None else unusual & valid)
    return at, bits[at]
