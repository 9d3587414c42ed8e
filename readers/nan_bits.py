"""NaNs that are not the usual one, kept beside the rows.

A float's bits count: NaNs carry signs and payloads, and 0/0 is a negative one on x86. But where all values of a row
group are NaN, DuckDB stores one constant and gives back its own NaN. So a file says the bits of every NaN that is not
DuckDB's, and reads put them back. Nearly every file has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_USUAL: dict[pa.DataType, np.unsignedinteger[Any]] = {
    pa.float32(): np.uint32(0x7FC0_0000),
    pa.float64(): np.uint64(0x7FF8_0000_0000_0000),
}

ENTRY_TYPE = pa.struct([("column", pa.string()), ("row", pa.int64()), ("bits", pa.uint64())])


@dataclass(frozen=True, slots=True)
class ColumnNans:
    """The unusual NaNs of one column, by row."""

    rows: npt.NDArray[np.int64]  # ascending
    bits: npt.NDArray[np.uint64]


def find_unusual_nans(table: pa.Table) -> pa.Array:
    """Return an ``ENTRY_TYPE`` array with every NaN of a table that DuckDB could change."""
    found = [pa.array([], ENTRY_TYPE)]
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.type not in _USUAL:
            continue
        row = 0
        for chunk in column.chunks:
            found.extend(_entries(field.name, chunk, row))
            row += len(chunk)
    return pa.concat_arrays(found)


def group_by_column(entries: pa.Array) -> dict[str, ColumnNans]:
    """Arrange what ``find_unusual_nans`` found for reading."""
    grouped = {}
    for name in entries.field("column").unique().to_pylist():
        mine = entries.filter(pc.equal(entries.field("column"), name))
        grouped[name] = ColumnNans(
            np.frombuffer(mine.field("row").buffers()[1], np.int64, count=len(mine), offset=8 * mine.offset),
            np.frombuffer(mine.field("bits").buffers()[1], np.uint64, count=len(mine), offset=8 * mine.offset),
        )
    return grouped


def restore_nans(array: pa.Array, nans: ColumnNans, first_row: int) -> pa.Array:
    """Put the bits back into rows ``first_row`` onwards of a column."""
    low, high = np.searchsorted(nans.rows, [first_row, first_row + len(array)])
    if low == high:
        return array
    validity, values = array.buffers()
    bits = np.frombuffer(values, _USUAL[array.type].dtype).copy()
    bits[nans.rows[low:high] - first_row + array.offset] = nans.bits[low:high]
    return pa.Array.from_buffers(array.type, len(array), [validity, pa.py_buffer(bits)], offset=array.offset)


def _entries(name: str, chunk: pa.Array, first_row: int) -> Iterator[pa.Array]:
    usual = _USUAL[chunk.type]
    if not len(chunk):
        return
    size = usual.dtype.itemsize
    bits = np.frombuffer(chunk.buffers()[1], usual.dtype, count=len(chunk), offset=size * chunk.offset)
    nan = np.isnan(bits.view(f"f{size}"))
    if not nan.any():
        return
    rows = pa.array(np.flatnonzero(nan & (bits != usual)))
    rows = rows.filter(chunk.is_valid().take(rows))
    if len(rows):
        at = np.frombuffer(rows.buffers()[1], np.int64, count=len(rows), offset=8 * rows.offset)
        columns = [pa.repeat(name, len(at)), pa.array(at + first_row), pa.array(bits[at].astype(np.uint64))]
        yield pa.StructArray.from_arrays(columns, fields=list(ENTRY_TYPE))
