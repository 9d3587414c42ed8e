"""JSON columns: one object of arrays, one for each column. It must be in memory whole, so it may not be long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from http_gateway.column_types import wire_type
from http_gateway.json_parsing import has_doubt, has_trouble, read_rows, to_batch
from http_gateway.json_values import Pairs, check_value, load, unknown_field
from http_gateway.text_chunks import bytes_of, depths, inside_json_strings
from readers.duckdb_memory import MAX_FIELDS
from timestore.errors import TimestoreError, error

MAX_COLUMNS_BYTES = 16 << 20
BATCH_ROWS = 65_536


def read_columns(file: IO[bytes]) -> bytes:
    """Read a whole body onto one line; raises ``batch_invalid``."""
    text = file.read(MAX_COLUMNS_BYTES)
    characters = bytes_of(text)
    breaks = (characters == ord("\n")) | (characters == ord("\r"))
    if (breaks & inside_json_strings(characters)).any():
        raise _invalid("there is a line break within a text")
    return text.replace(b"\n", b" ").replace(b"\r", b" ")


def column_names(text: bytes) -> list[str]:
    """Return the names of the columns, without a look at their values; raises ``batch_invalid``."""
    characters = bytes_of(text)
    outside = ~inside_json_strings(characters)
    is_top = (depths(characters, outside) == 1) & outside
    colons = np.flatnonzero(is_top & (characters == ord(":")))
    if len(colons) > MAX_FIELDS:
        raise _invalid(f"it has {len(colons)} columns, at most {MAX_FIELDS} are allowed")
    starts = np.flatnonzero(is_top & ((characters == ord("{")) | (characters == ord(","))))
    before = np.searchsorted(starts, colons) - 1
    try:
        names = [load(text[starts[place] + 1 : colon]) for place, colon in zip(before, colons, strict=True)]
    except (ValueError, IndexError) as exc:
        raise _invalid(f"it is not valid JSON: {exc}") from exc
    return [name for name in names if isinstance(name, str)]


def column_values(text: bytes) -> dict[str, list[object]]:
    """Return all values, to find types from; raises ``batch_invalid``."""
    return _arrays(text)


def parse_columns(text: bytes, schema: pa.Schema, *, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Parse columns of a schema; raises ``batch_invalid`` or ``schema_mismatch``, naming row and field."""
    wire = pa.schema([(field.name, pa.list_(_item(field))) for field in schema])
    if has_trouble(text):
        _check(text, schema, columns)
        raise _invalid("it is not valid JSON")
    try:
        row = read_rows(text, wire)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as exc:
        _check(text, schema, columns)
        raise _invalid(f"it cannot be read: {exc}") from exc
    lists = [column.combine_chunks() for column in row.columns]
    if row.num_rows != 1 or any(each.null_count for each in lists) or len({len(each.flatten()) for each in lists}) != 1:
        _check(text, schema, columns)
        raise _invalid("it is not one object of arrays")
    if any(has_doubt(each, text) for each in lists):
        _check(text, schema, columns)
    whole = pa.table([each.flatten() for each in lists], names=schema.names)
    for start in range(0, whole.num_rows, BATCH_ROWS):
        yield to_batch(whole.slice(start, BATCH_ROWS), schema, start)


def _item(field: pa.Field) -> pa.Field:
    return pa.field("item", wire_type(field.type), field.nullable)


def _check(text: bytes, schema: pa.Schema, columns: pa.Schema) -> None:
    """Raise what is wrong with columns; return if nothing is."""
    arrays = _arrays(text)
    for name in arrays:
        if schema.get_field_index(name) < 0:
            raise unknown_field(0, name, columns)
    rows = {name: len(values) for name, values in arrays.items()}
    if len(set(rows.values())) > 1:
        raise _invalid(f"the columns differ in length: {rows}")
    count = next(iter(rows.values()), 0)
    for field in schema:
        for row, value in enumerate(arrays.get(field.name, [None] * count)):
            check_value(value, field, row)


def _arrays(text: bytes) -> dict[str, list[object]]:
    try:
        fields = load(text)
    except ValueError as exc:
        raise _invalid(f"it is not valid JSON: {exc}") from exc
    if not isinstance(fields, Pairs):
        raise _invalid("it is not an object")
    arrays = dict(fields)
    if len(arrays) != len(fields):
        raise _invalid("a column is there twice")
    for name, values in arrays.items():
        if not isinstance(values, list) or isinstance(values, Pairs):
            raise _invalid(f"the column {name!r} is no array; a single row is sent as an array of one object")
    return arrays


def _invalid(problem: str) -> TimestoreError:
    return error("batch_invalid", f"the body is no JSON object of columns, each an array: {problem}")
