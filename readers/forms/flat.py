"""The forms of types without children."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from readers.forms.form import StorageForm, unchanged
from readers.plain.assembling import pack_validity
from timestore.digest.selection import numbers, validity

MAX_DECIMAL_DIGITS = 38

_SAME = {
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.date32(): "DATE",
}
_ZONELESS = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}
_INTERVAL = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")])
_INTERVAL_FIELDS = [("months", pa.int32()), ("days", pa.int32()), ("nanos", pa.int64())]


def flat_form(type_: pa.DataType) -> StorageForm | None:
    """Return how a plain type without children is stored; None if it is not."""
    if sql_type := _SAME.get(type_):
        return StorageForm(
            sql_type=sql_type,
            stored_type=type_,
            to_storage=unchanged,
            from_storage=lambda array: array if array.type == type_ else array.cast(type_),
        )
    make = _FORMS.get(type_.id)
    return make(type_) if make is not None else None


def _null(_type: pa.DataType) -> StorageForm:
    return StorageForm(
        sql_type="INTEGER",
        stored_type=pa.int32(),
        to_storage=lambda array: pa.nulls(len(array), pa.int32()),
        from_storage=lambda array: pa.nulls(len(array)),
    )


def _viewed(type_: pa.DataType, stored: pa.DataType, sql_type: str) -> StorageForm:
    """Store the integers of a type as those of another."""
    return StorageForm(
        sql_type=sql_type,
        stored_type=stored,
        to_storage=lambda array: array.view(stored),
        from_storage=lambda array: array.view(type_),
    )


def _duration(type_: pa.DataType) -> StorageForm:
    return _viewed(type_, pa.int64(), "BIGINT")  # an INTERVAL of DuckDB does not tell its unit, and loses nanoseconds


def _date64(type_: pa.DataType) -> StorageForm:
    return _viewed(type_, pa.timestamp("ms"), "TIMESTAMP_MS")  # a DATE would lose what is no whole day


def _time(type_: pa.DataType) -> StorageForm:
    if type_.unit == "ns":
        return _viewed(type_, type_, "TIME_NS")
    stored = pa.time64("us")
    return StorageForm(
        sql_type="TIME",
        stored_type=stored,
        to_storage=lambda array: array.cast(stored),
        from_storage=lambda array: array.cast(type_),
    )


def _timestamp(type_: pa.DataType) -> StorageForm:
    """Instants with a zone: in microseconds as TIMESTAMPTZ; nanoseconds as UTC without one, which DuckDB 1.5 can open.

    The zone's name is in the schema; no value depends on it.
    """
    if not type_.tz:
        return _viewed(type_, pa.timestamp(type_.unit), _ZONELESS[type_.unit])
    if type_.unit == "ns":
        return _viewed(type_, pa.timestamp("ns"), "TIMESTAMP_NS")
    utc, stored = pa.timestamp(type_.unit, "UTC"), pa.timestamp("us", "UTC")
    return StorageForm(
        sql_type="TIMESTAMPTZ",
        stored_type=stored,
        to_storage=lambda array: array.view(utc).cast(stored),
        from_storage=lambda array: array.view(stored).cast(utc).view(type_),
    )


def _decimal(type_: pa.DataType) -> StorageForm | None:
    digits = max(type_.precision, type_.scale)  # DuckDB has no scale beyond the number of digits
    if type_.scale < 0 or digits > MAX_DECIMAL_DIGITS:
        return None
    whole, stored = pa.decimal128(type_.precision, type_.scale), pa.decimal128(digits, type_.scale)
    return StorageForm(
        sql_type=f"DECIMAL({digits},{type_.scale})",
        stored_type=stored,
        to_storage=lambda array: _relabelled(array.cast(whole), stored),
        from_storage=lambda array: _relabelled(array, whole).cast(type_),
    )


def _relabelled(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Give a decimal another number of digits, its integers as they are."""
    return pa.Array.from_buffers(type_, len(array), array.buffers(), offset=array.offset)


def _fixed_binary(type_: pa.DataType) -> StorageForm:
    stored = pa.large_binary()

    def to_storage(array: pa.Array) -> pa.Array:
        width = type_.byte_width
        offsets = (np.arange(len(array) + 1) + array.offset) * width
        buffers = [pack_validity(validity(array, None)), pa.py_buffer(offsets), array.buffers()[1] or pa.py_buffer(b"")]
        return pa.Array.from_buffers(stored, len(array), buffers)

    def from_storage(array: pa.Array) -> pa.Array:
        texts = array.cast(stored)
        valid = validity(texts, None)
        values = np.zeros(len(array), f"V{type_.byte_width}") if type_.byte_width else np.empty(0, "u1")
        if type_.byte_width and len(array):
            offsets = numbers(texts, "<i8", extra=1)
            data = np.frombuffer(texts.buffers()[2] or b"", "u1")[offsets[0] : offsets[-1]]
            values[slice(None) if valid is None else valid] = data.view(values.dtype)
        return pa.Array.from_buffers(type_, len(array), [pack_validity(valid), pa.py_buffer(values)])

    return StorageForm(sql_type="BLOB", stored_type=stored, to_storage=to_storage, from_storage=from_storage)


def _interval(type_: pa.DataType) -> StorageForm:
    """Keep months, days and nanoseconds apart: DuckDB's own INTERVAL loses the nanoseconds."""
    stored = pa.struct(_INTERVAL_FIELDS)

    def to_storage(array: pa.Array) -> pa.Array:
        parts = numbers(array, _INTERVAL) if len(array) else np.empty(0, _INTERVAL)  # type: ignore[arg-type]
        valid = validity(array, None)
        mask = None if valid is None else pa.array(~valid)
        children = [pa.array(np.ascontiguousarray(parts[name])) for name, _ in _INTERVAL_FIELDS]
        return pa.StructArray.from_arrays(children, fields=list(stored), mask=mask)

    def from_storage(array: pa.Array) -> pa.Array:
        parts = np.empty(len(array), _INTERVAL)
        for position, (name, part_type) in enumerate(_INTERVAL_FIELDS):
            if len(array):
                parts[name] = numbers(array.field(position), f"<i{part_type.bit_width // 8}")
        return pa.Array.from_buffers(
            type_, len(array), [pack_validity(validity(array, None)), pa.py_buffer(parts.view("u1"))]
        )

    sql_type = "STRUCT(months INTEGER, days INTEGER, nanos BIGINT)"
    return StorageForm(sql_type=sql_type, stored_type=stored, to_storage=to_storage, from_storage=from_storage)


_FORMS: dict[int, Callable[[pa.DataType], StorageForm | None]] = {
    pa.lib.Type_NA: _null,
    pa.lib.Type_DATE64: _date64,
    pa.lib.Type_TIME32: _time,
    pa.lib.Type_TIME64: _time,
    pa.lib.Type_TIMESTAMP: _timestamp,
    pa.lib.Type_DURATION: _duration,
    pa.lib.Type_INTERVAL_MONTH_DAY_NANO: _interval,
    pa.lib.Type_DECIMAL32: _decimal,
    pa.lib.Type_DECIMAL64: _decimal,
    pa.lib.Type_DECIMAL128: _decimal,
    pa.lib.Type_FIXED_SIZE_BINARY: _fixed_binary,
}
