"""Nested arrays put together, and what is known of them apart from their children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from readers.plain.types import LIST_VIEWS, child_fields

Offsets = npt.NDArray[np.int64]


class NullKeyError(Exception):
    """A map has a null key. Arrow forbids them, but does not see those that a dictionary's index names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A nested column without its slices: children hold exactly what its valid rows do.

    A list's child has the items of the valid lists alone, one list after the other. A struct's children have a row for
    each row, null where the struct is.
    """

    rows: int
    valid: npt.NDArray[np.bool_] | None  # None if all rows are
    offsets: Offsets | None  # of lists of any length and maps, from 0
    children: list[pa.Array]


def assemble(type_: pa.DataType, opened: Opened, children: Sequence[pa.Array]) -> pa.Array:
    """Put an array of any nested type together from children that lie as Arrow's layout wants them, encoded or not."""
    bitmap = pack_validity(opened.valid)
    if type_.id in (pa.lib.Type_STRUCT, pa.lib.Type_FIXED_SIZE_LIST):
        return pa.Array.from_buffers(type_, opened.rows, [bitmap], children=list(children))
    offsets = list_offsets(opened)
    if type_.id == pa.lib.Type_MAP:
        if children[0].null_count:
            raise NullKeyError  # pyarrow would abort the process
        children = [pa.StructArray.from_arrays(list(children), fields=child_fields(type_))]
    wide = np.int64 if type_.id in (pa.lib.Type_LARGE_LIST, pa.lib.Type_LARGE_LIST_VIEW) else np.int32
    buffers = [bitmap, pa.py_buffer(offsets.astype(wide))]
    if type_.id in LIST_VIEWS:
        buffers = [bitmap, pa.py_buffer(offsets[:-1].astype(wide)), pa.py_buffer(np.diff(offsets).astype(wide))]
    return pa.Array.from_buffers(type_, opened.rows, buffers, children=list(children))


def list_offsets(opened: Opened) -> Offsets:
    """Return where each row's items start in the child, and the end of the last; only for lists and maps."""
    if opened.offsets is not None:
        return opened.offsets
    valid = np.ones(opened.rows, np.int64) if opened.valid is None else opened.valid.astype(np.int64)
    held = int(valid.sum())
    size = len(opened.children[0]) // held if held else 0
    return np.concatenate(([0], np.cumsum(valid * size)))


def pack_validity(valid: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    """Return the bitmap that says which rows are valid; none if all are."""
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
