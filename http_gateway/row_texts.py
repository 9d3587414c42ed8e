"""Rows as text, column by column: JSON on a line each, or CSV. Appended again, they are the same rows."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from http_gateway.column_types import has_csv_form, without_encoding
from readers.json_text import json_text, json_values
from timestore.errors import error

_CONTROL = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
_NO_NUMBERS = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


def json_lines(batch: pa.RecordBatch) -> bytes:
    """Spell each row as a JSON object on a line of its own."""
    if not batch.num_rows:
        return b""
    parts: list[Any] = []
    for place, (field, column) in enumerate(zip(batch.schema, batch.columns, strict=True)):
        parts += [f"{',' if place else '{'}{json.dumps(field.name, ensure_ascii=False)}:", _json_texts(column)]
    parts.append("}\n")
    return _joined(
        pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="null").cast(pa.string())
    )


class CsvText:
    """Spells batches of one schema as CSV."""

    def __init__(self, schema: pa.Schema) -> None:
        """Prepare for a schema; raises ``unsupported`` if it has columns that have no form in CSV."""
        for field in schema:
            if not has_csv_form(without_encoding(field.type)):
                raise error(
                    "unsupported",
                    f"the column {field.name!r} is of type {field.type}, which CSV cannot say; ask for Arrow, or for "
                    "other columns",
                    details={"column": field.name},
                )
        self._out = BytesIO()
        self._writer = pa_csv.CSVWriter(self._out, _spelled(_empty(schema)).schema)

    def text(self, batch: pa.RecordBatch) -> bytes:
        """Return the text of more rows; the first begins with the line of names."""
        if batch.num_rows:
            self._writer.write_batch(_spelled(batch))
        return self._taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        text = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return text


def _json_texts(column: pa.Array) -> pa.Array:
    """Spell values as JSON; nulls stay null."""
    type_ = without_encoding(column.type)
    column = column.cast(type_) if type_ != column.type else column
    if pa.types.is_floating(type_):
        return _float_texts(column)
    if pa.types.is_integer(type_) or pa.types.is_boolean(type_) or pa.types.is_decimal(type_):
        return column.cast(pa.string())
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return _quoted(_escaped(column.cast(pa.string())))
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_) or pa.types.is_time(type_):
        return _quoted(_time_texts(column))
    return pa.array([None if value is None else json_text(value) for value in json_values(column)], pa.string())


def _quoted(texts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise('"', texts, '"', "")


def _escaped(texts: pa.Array) -> pa.Array:
    if not pc.any(pc.match_substring_regex(texts, r'[\x00-\x1f"\\]'), min_count=0).as_py():
        return texts
    texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    for code in range(0x20) if pc.any(pc.match_substring_regex(texts, r"[\x00-\x1f]"), min_count=0).as_py() else ():
        texts = pc.replace_substring(texts, chr(code), _CONTROL.get(chr(code), f"\\u{code:04x}"))
    return texts


def _float_texts(column: pa.Array) -> pa.Array:
    texts = column.cast(pa.string())
    if not pc.all(pc.is_finite(column), min_count=0).as_py():
        for spelled, quoted in _NO_NUMBERS.items():
            texts = pc.if_else(pc.equal(texts, spelled), quoted, texts)
    return texts


def _time_texts(column: pa.Array) -> pa.Array:
    if not pa.types.is_timestamp(column.type):
        return column.cast(pa.string())
    zone = "Z" if column.type.tz is not None else ""
    in_utc = column.cast(pa.timestamp(column.type.unit, "UTC" if zone else None)).cast(pa.timestamp(column.type.unit))
    return pc.binary_join_element_wise(pc.strftime(in_utc, format="%Y-%m-%dT%H:%M:%S"), zone, "")


def _spelled(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Take encodings off, and spell times as RFC 3339."""
    columns = []
    for column in batch.columns:
        plain = column.cast(without_encoding(column.type))
        columns.append(_time_texts(plain) if pa.types.is_timestamp(plain.type) else plain)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _joined(texts: pa.Array) -> bytes:
    """Return the texts one after the other: as they are in memory."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)
    first, last = int(ends[texts.offset]), int(ends[texts.offset + len(texts)])
    return bytes(data[first:last].to_pybytes()) if data is not None else b""
