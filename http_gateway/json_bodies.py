"""Bodies of JSON: rows on lines, an array of rows, or an object of columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pyarrow as pa

from http_gateway.column_types import only, plain_schema_of, wire_type
from http_gateway.encodings import Source
from http_gateway.inference import infer_from_columns, infer_from_rows
from http_gateway.json_array import array_chunks
from http_gateway.json_columns import column_names, column_values, parse_columns
from http_gateway.json_parsing import JsonRows
from http_gateway.json_values import Pairs, load
from http_gateway.rows import Rows, Wanted
from http_gateway.text_chunks import TextChunk, line_chunks


def open_lines(source: Source, wanted: Wanted) -> Rows:
    """Open rows that stand on a line each; blank lines are none."""
    return _open_chunks(line_chunks(source), wanted, may_be_blank=True)


def open_array(source: Source, wanted: Wanted) -> Rows:
    """Open an array of rows, of which the ``[`` has been read."""
    return _open_chunks(array_chunks(source), wanted, may_be_blank=False)


def open_columns(text: bytes, wanted: Wanted) -> Rows:
    """Open an object of columns."""
    if wanted.dataset is None:
        columns = infer_from_columns(column_values(text), wanted.timestamp_column)
        schema = columns
    else:
        columns = plain_schema_of(wanted.dataset)
        schema = _with(columns, set(column_names(text)))
    return Rows(schema=schema, batches=parse_columns(text, schema, columns=columns))


def _open_chunks(chunks: Iterator[TextChunk], wanted: Wanted, *, may_be_blank: bool) -> Rows:
    first = next(chunks)
    if wanted.dataset is None:
        columns = infer_from_rows(first.lines, wanted.timestamp_column)
        schema = columns
    else:
        columns = plain_schema_of(wanted.dataset)
        schema = _with(columns, _names_in(first))
    return Rows(schema=schema, batches=_batches(JsonRows(schema, columns=columns), first, chunks, may_be_blank))


def _batches(
    rows: JsonRows, first: TextChunk, rest: Iterator[TextChunk], may_be_blank: bool
) -> Iterator[pa.RecordBatch]:
    for chunk in chain([first], rest):
        if chunk.has_rows:
            yield rows.parse(chunk.lines, may_be_blank=may_be_blank)


def _names_in(chunk: TextChunk) -> set[str] | None:
    """Return the names that the rows of a whole body have; None if there may be others to come.

    So a short body is the same append as one by Flight that has the same columns, whatever others the dataset has.
    """
    if not chunk.is_whole:
        return None
    names: set[str] = set()
    try:
        for line in chunk.lines.split(b"\n"):
            fields = load(line) if line.strip() else None
            names.update(name for name, _ in fields or ()) if isinstance(fields, Pairs) else None
    except ValueError:
        return None  # the parser will say what is wrong
    return names or None


def _with(columns: pa.Schema, names: set[str] | None) -> pa.Schema:
    """Return the columns that rows have: those that are named, those that must be there, and only what JSON can say."""
    sayable = pa.schema([field for field in columns if wire_type(field.type) is not None])
    if names is None:
        return sayable
    return only(sayable, names | {field.name for field in sayable if not field.nullable})
