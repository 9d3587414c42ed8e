"""Which values of a plain column are the same, for any type: pyarrow and numpy can tell only for a few."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from readers.plain.assembling import list_offsets, pack_validity
from readers.plain.nested import open_nested
from readers.plain.types import NESTED
from timestore.digest.selection import booleans, numbers, validity

Codes = npt.NDArray[np.int64]

TEXTS = frozenset({pa.lib.Type_STRING, pa.lib.Type_LARGE_STRING, pa.lib.Type_BINARY, pa.lib.Type_LARGE_BINARY})
_FLOATS = {pa.lib.Type_FLOAT: "<f4", pa.lib.Type_DOUBLE: "<f8"}


def value_codes(array: pa.Array, *, bitwise: bool) -> Codes:
    """Return a number for each value of a plain array: from 0 by first appearance, equal for equal values; nulls -1.

    ``bitwise`` tells floats apart by their bits; otherwise all NaNs are equal, and so are 0.0 and -0.0.
    """
    kind = array.type.id
    valid = validity(array, None) if kind != pa.lib.Type_NA else np.zeros(len(array), bool)
    if not len(array) or (valid is not None and not valid.any()):
        return np.full(len(array), -1)
    if kind in NESTED:
        encodable = _nested_texts(array, bitwise)
    elif kind in TEXTS:
        encodable = array
    else:
        encodable = _fixed_texts(_comparable(array, bitwise), valid)
    codes = encodable.dictionary_encode(null_encoding="mask").indices
    return np.where(codes.is_valid(), codes.fill_null(0), -1).astype(np.int64)


def first_rows(codes: Codes) -> Codes:
    """Return the row in which each number appears first."""
    used = np.flatnonzero(codes >= 0)
    first = np.zeros(int(codes.max(initial=-1)) + 1, np.int64)
    first[codes[used[::-1]]] = used[::-1]  # of equal numbers the last one written stays: the first row
    return first


def _comparable(array: pa.Array, bitwise: bool) -> npt.NDArray[Any]:
    """Return a column of fixed width as an array of values that are equal when their bytes are."""
    if array.type.id == pa.lib.Type_BOOL:
        return booleans(array)
    if array.type.id in _FLOATS and not bitwise:
        values = numbers(array, _FLOATS[array.type.id])
        return np.where(np.isnan(values), np.nan, values + 0.0)
    width = array.type.bit_width // 8
    return numbers(array, f"V{width}") if width else np.zeros(len(array), "u1")


def _fixed_texts(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> pa.Array:
    type_ = pa.binary(values.dtype.itemsize)
    data = pa.py_buffer(np.ascontiguousarray(values).view("u1"))
    return pa.Array.from_buffers(type_, len(values), [pack_validity(valid), data])


def _nested_texts(array: pa.Array, bitwise: bool) -> pa.Array:
    """Spell each value as the numbers of its children's values: equal values are spelled the same."""
    opened = open_nested(array)
    codes = [value_codes(child, bitwise=bitwise) for child in opened.children]
    spelled = np.ascontiguousarray(np.stack(codes, axis=1))
    if array.type.id == pa.lib.Type_STRUCT:
        return _fixed_texts(spelled.view(f"V{8 * len(codes)}").ravel(), opened.valid)
    offsets = list_offsets(opened) * (8 * len(codes))
    buffers = [pack_validity(opened.valid), pa.py_buffer(offsets), pa.py_buffer(spelled)]
    return pa.Array.from_buffers(pa.large_binary(), len(array), buffers)
