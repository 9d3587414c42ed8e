"""Which of a dataset's columns rows of text or JSON can have, and as which types their values come."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from http_gateway.text_values import can_be_text


def plain_schema_of(schema: pa.Schema) -> pa.Schema:
    """Return a schema without its encodings, which rows of text do not have, and without metadata."""
    return pa.schema([pa.field(field.name, without_encoding(field.type), field.nullable) for field in schema])


def without_encoding(type_: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary or of runs."""
    if pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
        return without_encoding(type_.value_type)
    return type_


def wire_type(type_: pa.DataType) -> pa.DataType | None:
    """Return the type as which JSON is parsed for a column: that of its JSON values; None if it has no JSON form."""
    if _is_read_as_text(type_):
        return pa.string()
    return type_ if _is_json(type_) else None


def has_csv_form(type_: pa.DataType) -> bool:
    return can_be_text(type_)


def only(schema: pa.Schema, names: Collection[str]) -> pa.Schema:
    """Return the fields of a schema with certain names."""
    return pa.schema([field for field in schema if field.name in names])


def _is_read_as_text(type_: pa.DataType) -> bool:
    """Say whether a type has its values as text, which Arrow's JSON parser would read too leniently."""
    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_) or pa.types.is_time(type_))


def _is_json(type_: pa.DataType) -> bool:
    """Say whether Arrow's JSON parser reads a type, and exactly."""
    if pa.types.is_struct(type_):
        return all(_is_json(type_.field(place).type) for place in range(type_.num_fields))
    if pa.types.is_list(type_):
        return _is_json(type_.value_type)
    return can_be_text(type_) and not _is_read_as_text(type_) and not pa.types.is_decimal256(type_)
