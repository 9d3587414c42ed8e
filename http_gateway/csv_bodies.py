"""Bodies of CSV: RFC 4180 with a line of names. A field that is empty, and not quoted, is null."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from http_gateway.column_types import has_csv_form, plain_schema_of
from http_gateway.encodings import Source
from http_gateway.inference import infer_from_texts
from http_gateway.json_values import mismatch, unknown_field
from http_gateway.rows import Rows, Wanted
from http_gateway.text_chunks import Mask, TextChunk, bytes_of, line_chunks
from http_gateway.text_values import TextValueError, parse_texts
from timestore.errors import TimestoreError, error

_BEFORE_FIELD = list(b',\n\r"')  # or the second quote of two
_BOM = b"\xef\xbb\xbf"


def open_csv(source: Source, wanted: Wanted) -> Rows:
    """Open rows of text with a line of names; raises ``batch_invalid`` and ``schema_mismatch``."""
    chunks = line_chunks(source, last_end=_last_row_end)
    first = next(chunks).lines.removeprefix(_BOM)
    end = _first_row_end(first)
    names = _names(first[:end])
    texts = _texts(chain([TextChunk(lines=first[end:])], chunks), names)
    if wanted.dataset is None:
        sample = next(texts, None)
        if sample is None:
            raise _invalid("it has no rows to find types from, and the dataset does not exist")
        schema = infer_from_texts(sample, wanted.timestamp_column)
        texts = chain([sample], texts)
    else:
        schema = _schema_of(names, plain_schema_of(wanted.dataset))
    return Rows(schema=schema, batches=_batches(texts, schema))


def _names(line: bytes) -> list[str]:
    if not line.strip():
        raise _invalid("it must begin with a line of the columns' names")
    try:
        names: list[str] = pa_csv.read_csv(pa.BufferReader(line.rstrip(b"\r\n") + b"\n")).column_names
    except (pa.ArrowInvalid, UnicodeDecodeError) as exc:
        raise _invalid(f"its first line cannot be read: {exc}") from exc
    if len(set(names)) != len(names):
        raise _invalid(f"it has a column twice: {names}")
    return names


def _schema_of(names: list[str], columns: pa.Schema) -> pa.Schema:
    for name in names:
        place = columns.get_field_index(name)
        if place < 0 or not has_csv_form(columns.field(place).type):
            raise unknown_field(0, name, columns)
    return pa.schema([columns.field(name) for name in names])


def _texts(chunks: Iterator[TextChunk], names: list[str]) -> Iterator[pa.RecordBatch]:
    """Parse chunks into columns of text, those without rows left out."""
    rows = 0
    for chunk in chunks:
        if not chunk.lines.strip(b"\r\n"):
            continue
        _check_quotes(chunk.lines, rows)
        for batch in _parsed(chunk.lines, names, rows).combine_chunks().to_batches():
            rows += batch.num_rows
            yield batch


def _parsed(lines: bytes, names: list[str], rows: int) -> pa.Table:
    try:
        return pa_csv.read_csv(
            pa.BufferReader(lines),
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=names),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as exc:
        raise _invalid(f"after row {rows}, where rows are counted from 1: {exc}") from exc


def _batches(texts: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in texts:
        arrays = [_values(batch.column(field.name), field, rows) for field in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        rows += batch.num_rows


def _values(texts: pa.Array, field: pa.Field, rows: int) -> pa.Array:
    if texts.null_count and not field.nullable:
        row = rows + texts.is_null().index(True).as_py()
        raise mismatch(row, field.name, "is empty, and may not be null")
    try:
        return parse_texts(texts, field.type)
    except TextValueError as exc:
        text = texts[exc.place].as_py()
        raise mismatch(rows + exc.place, field.name, f"is the text {text[:60]!a}, not {exc.expected}") from exc


def _quotes(text: bytes) -> Mask | None:
    return bytes_of(text) == ord('"') if b'"' in text else None


def _row_ends(text: bytes) -> Mask:
    """Say where line ends are that are no part of a field."""
    ends: Mask = bytes_of(text) == ord("\n")
    if (quotes := _quotes(text)) is not None:
        ends &= ~np.bitwise_xor.accumulate(quotes.view(np.uint8)).view(np.bool_)
    return ends


def _last_row_end(text: bytes) -> int:
    if b'"' not in text:
        return text.rfind(b"\n")
    ends = np.flatnonzero(_row_ends(text))
    return int(ends[-1]) if ends.size else -1


def _first_row_end(text: bytes) -> int:
    """Return the place after the first row."""
    ends = np.flatnonzero(_row_ends(text))
    return int(ends[0]) + 1 if ends.size else len(text)


def _check_quotes(lines: bytes, rows: int) -> None:
    """Refuse quotes that do not enclose a field whole: Arrow's parser would read a field that has no end."""
    if (quotes := _quotes(lines)) is None:
        return
    padded = bytes_of(b"\n" + lines + b"\n")
    places = np.flatnonzero(quotes) + 1
    opening, closing = places[0::2], places[1::2]
    if (
        len(opening) != len(closing)
        or not np.isin(padded[opening - 1], _BEFORE_FIELD).all()
        or not np.isin(padded[closing + 1], _BEFORE_FIELD).all()
    ):
        raise _invalid(
            f"after row {rows} a quote is not the first or last character of its field; enclose such a field in quotes "
            "and double those within it"
        )


def _invalid(problem: str) -> TimestoreError:
    return error("batch_invalid", f"the body is no CSV with a line of names: {problem}")
