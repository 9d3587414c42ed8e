"""JSON rows and columns to Arrow, exactly: Arrow's parser does the work, and what it gets wrong is kept from it.

Tried (pyarrow 26): it reads ``NaN``, turns what is too large for a float into infinity and rounds whole numbers beyond
a double's digits, takes times without a zone, and crashes on a ``null`` where a row should be. It refuses everything
else that is not exactly of the type. Its refusals name no row, so ``json_values`` looks at those rows again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from http_gateway.column_types import wire_type
from http_gateway.json_values import check_lines, invalid, mismatch
from http_gateway.text_chunks import bytes_of, depths, inside_json_strings
from http_gateway.text_values import TextValueError, parse_texts

# Something other than a field's end, or the next row, after an object's end: perhaps a row that is no object.
_AFTER_OBJECT = re.compile(rb"\}\s*[^\s{},\]]")
_NO_NUMBERS = (b"NaN", b"Inf")
_LONG_INTEGER = re.compile(rb"[:\[,]\s*-?[0-9]{8,}\s*[,}\]]")
_BLANK = re.compile(rb"\n[ \t\r]*\n|\A[ \t\r]*\n|\n[ \t\r]+\Z")
_SPACE = list(b" \t\r\n")
_EXACT_BELOW = {pa.float32(): 2.0**24, pa.float64(): 2.0**53}


class JsonRows:
    """Parses rows of one schema, each on a line of its own."""

    def __init__(self, schema: pa.Schema, *, columns: pa.Schema) -> None:
        """``columns`` has all columns of the dataset, for messages."""
        self.schema = schema
        self._columns = columns
        wire = [(field, wire_type(field.type)) for field in schema]
        self._wire = pa.schema(
            [pa.field(field.name, type_, field.nullable) for field, type_ in wire if type_ is not None]
        )
        self.rows = 0

    def parse(self, lines: bytes, *, may_be_blank: bool) -> pa.RecordBatch:
        """Parse some rows; raises ``batch_invalid`` or ``schema_mismatch``, naming row and field."""
        batch = self._parsed(lines, may_be_blank)
        self.rows += batch.num_rows
        return batch

    def _parsed(self, lines: bytes, may_be_blank: bool) -> pa.RecordBatch:
        if may_be_blank and not lines.strip():
            return _empty(self.schema)
        if has_trouble(lines):
            self._check(lines, may_be_blank)
            raise invalid(self.rows, "these rows are not valid JSON")
        try:
            table = read_rows(lines, self._wire)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as exc:
            self._check(lines, may_be_blank)
            raise invalid(self.rows, f"these rows cannot be read: {exc}") from exc
        if table.num_rows != _count_rows(lines, may_be_blank):
            self._check(lines, may_be_blank)
            raise invalid(self.rows, "these rows do not stand on a line each")
        if any(has_doubt(column.combine_chunks(), lines) for column in table.columns):
            self._check(lines, may_be_blank)
        return to_batch(table, self.schema, self.rows)

    def _check(self, lines: bytes, may_be_blank: bool) -> None:
        check_lines(lines, self.schema, columns=self._columns, first_row=self.rows, may_be_blank=may_be_blank)


def read_rows(lines: bytes, wire: pa.Schema) -> pa.Table:
    """Read rows that are objects; raises ``pa.ArrowInvalid``."""
    return pa_json.read_json(
        pa.BufferReader(lines),
        read_options=pa_json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=pa_json.ParseOptions(explicit_schema=wire, unexpected_field_behavior="error"),
    )


def to_batch(table: pa.Table, schema: pa.Schema, first_row: int) -> pa.RecordBatch:
    """Turn what is text on the wire into values; raises ``schema_mismatch``."""
    arrays = []
    for field in schema:
        column = table.column(field.name).combine_chunks()
        if column.type != field.type:
            column = _parsed_times(column, field, first_row)
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _parsed_times(column: pa.Array, field: pa.Field, first_row: int) -> pa.Array:
    try:
        return parse_texts(column, field.type)
    except TextValueError as exc:
        text = column[exc.place].as_py()
        raise mismatch(first_row + exc.place, field.name, f"is the text {text[:60]!a}, not {exc.expected}") from exc


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _count_rows(lines: bytes, may_be_blank: bool) -> int:
    if not may_be_blank:
        return lines.count(b"\n") + 1
    return sum(bool(line.strip()) for line in lines.split(b"\n")) if _BLANK.search(lines) else _count_lines(lines)


def _count_lines(lines: bytes) -> int:
    return lines.count(b"\n") + (not lines.endswith(b"\n"))


def has_trouble(text: bytes) -> bool:
    """Say whether there is something that Arrow's parser would take, or even crash on."""
    if not _is_utf8(text):
        return True
    is_suspicious = (
        not text.lstrip().startswith(b"{")
        or _AFTER_OBJECT.search(text) is not None
        or any(name in text for name in _NO_NUMBERS)
    )
    return is_suspicious and not _has_only_objects(text)


def _has_only_objects(text: bytes) -> bool:
    """Say whether there are objects and nothing between them, and in them no literal like NaN or Infinity."""
    characters = bytes_of(text)
    outside = ~inside_json_strings(characters)
    depth = depths(characters, outside)
    between = outside & (depth == 0) & ~np.isin(characters, _SPACE) & (characters != ord("}"))
    arrays = outside & (depth == 1) & (characters == ord("["))
    arrays[1:] &= depth[:-1] == 0
    literals = outside & ((characters == ord("N")) | (characters == ord("I")))
    return not (between.any() or arrays.any() or literals.any() or bool((depth < 0).any()))


def _is_utf8(text: bytes) -> bool:
    try:
        text.isascii() or text.decode()
    except UnicodeDecodeError:
        return False
    return True


def has_doubt(values: pa.Array, text: bytes) -> bool:
    """Say whether some values may not be what the text says: floats too large, or rounded from whole numbers."""
    doubtful = [leaf for leaf in _leaves(values) if _is_large(leaf)]
    if any(pc.any(pc.is_inf(leaf)).as_py() for leaf in doubtful):
        return True
    return bool(doubtful) and _LONG_INTEGER.search(text) is not None


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    if pa.types.is_struct(array.type):
        for place in range(array.type.num_fields):
            yield from _leaves(array.field(place))
    elif pa.types.is_list(array.type):
        yield from _leaves(array.flatten())
    else:
        yield array


def _is_large(leaf: pa.Array) -> bool:
    """Say whether there is a float so large that not every whole number has one."""
    limit = _EXACT_BELOW.get(leaf.type)
    if limit is None or not len(leaf):
        return False
    numbers = pc.fill_null(leaf, 0.0).to_numpy()
    return bool(np.abs(numbers).max() >= limit)
