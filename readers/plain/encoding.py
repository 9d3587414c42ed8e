"""From plain columns back to the forms in which they were sent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from readers.plain.assembling import assemble
from readers.plain.decoding import take_rows
from readers.plain.identity import TEXTS, first_rows, value_codes
from readers.plain.nested import open_nested, slots
from readers.plain.types import child_fields, is_plain

_SIGNED = frozenset({pa.lib.Type_INT8, pa.lib.Type_INT16, pa.lib.Type_INT32, pa.lib.Type_INT64})


class _TooManyError(Exception):
    """More values than the index of a dictionary, or the ends of runs, can count."""


def encoded_batches(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield plain rows in the forms of a schema.

    A batch is cut where its values need a larger dictionary, or its runs larger ends, than the schema's integers can
    count: files join rows that came with different dictionaries. One row always fits: ``writers.capacity`` sees to it.
    """
    try:
        arrays = [encode(array, field.type) for array, field in zip(batch.columns, schema, strict=True)]
    except _TooManyError:
        half = batch.num_rows // 2
        assert half  # else no put with such a row was accepted
        yield from encoded_batches(batch.slice(0, half), schema)
        yield from encoded_batches(batch.slice(half), schema)
    else:
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def dictionary_capacity(type_: pa.DataType) -> int:
    """Return how many values the index of a dictionary type can tell apart."""
    index = type_.index_type
    return 1 << int(index.bit_width - (index.id in _SIGNED))


def run_capacity(type_: pa.DataType) -> int:
    """Return how many values the ends of a run-end encoded type can count."""
    return (1 << int(type_.run_end_type.bit_width - 1)) - 1


def encode(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Bring a plain array into the form of a type that it is the plain form of."""
    if is_plain(type_):
        return array
    if isinstance(type_, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(type_, encode(array, type_.storage_type))
    match type_.id:
        case pa.lib.Type_DICTIONARY:
            return _dictionary(array, type_)
        case pa.lib.Type_RUN_END_ENCODED:
            return _runs(array, type_)
        case pa.lib.Type_STRING_VIEW | pa.lib.Type_BINARY_VIEW:
            return array.cast(type_)
    opened = open_nested(array)
    fields = child_fields(type_)
    plain = slots(type_, opened, opened.children)
    return assemble(type_, opened, [encode(child, field.type) for child, field in zip(plain, fields, strict=True)])


def _dictionary(array: pa.Array, type_: pa.DataType) -> pa.Array:
    values, indices = _texts_once(array) if array.type.id in TEXTS else _values_once(array)
    if len(values) > dictionary_capacity(type_):
        raise _TooManyError
    values = encode(values, type_.value_type)
    return pa.DictionaryArray.from_arrays(indices.cast(type_.index_type), values, ordered=type_.ordered, safe=False)


def _texts_once(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Let pyarrow do what it can do: several times as quick, and dictionaries are mostly of texts."""
    encoded = array.dictionary_encode()
    return encoded.dictionary, encoded.indices


def _values_once(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    codes = value_codes(array, bitwise=True)
    return take_rows(array, first_rows(codes)), pa.array(np.maximum(codes, 0), mask=codes < 0)


def _runs(array: pa.Array, type_: pa.DataType) -> pa.Array:
    if len(array) > run_capacity(type_):
        raise _TooManyError
    codes = value_codes(array, bitwise=True)
    changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    starts = np.concatenate(([0], changes)) if len(array) else changes
    ends = np.append(starts[1:], len(array)) if len(array) else starts
    values = encode(take_rows(array, starts), type_.value_type)
    return pa.Array.from_buffers(type_, len(array), [None], children=[pa.array(ends, type_.run_end_type), values])
