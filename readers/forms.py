"""How each Arrow type is stored in a DuckDB file, and how it comes back bit for bit.

A type without a form here is refused by name before any data is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageForm:
    """One Arrow type's form in a file."""

    sql_type: str
    to_storage: Callable[[pa.ChunkedArray], pa.ChunkedArray]
    from_storage: Callable[[pa.Array], pa.Array]


def _same(array: pa.ChunkedArray) -> pa.ChunkedArray:
    return array


_PLAIN = {
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
}
_ZONELESS = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}


def storage_form(type_: pa.DataType) -> StorageForm | None:
    """Return how a type is stored; None if it is not."""
    if sql_type := _PLAIN.get(type_):
        return StorageForm(sql_type=sql_type, to_storage=_same, from_storage=lambda array: array.cast(type_))
    if type_ == pa.date32():
        return StorageForm(sql_type="DATE", to_storage=_same, from_storage=lambda array: array.cast(type_))
    if type_ == pa.date64():
        return _date64_form()
    if pa.types.is_timestamp(type_):
        return _zoned_form(type_) if type_.tz is not None else _zoneless_form(type_)
    return None


def _zoneless_form(type_: pa.DataType) -> StorageForm:
    return StorageForm(sql_type=_ZONELESS[type_.unit], to_storage=_same, from_storage=lambda array: array.view(type_))


def _date64_form() -> StorageForm:
    """Milliseconds, which reach further than DuckDB's dates."""
    stored = pa.timestamp("ms")
    return StorageForm(
        sql_type="TIMESTAMP_MS",
        to_storage=lambda array: _viewed(array, stored),
        from_storage=lambda array: array.view(pa.date64()),
    )


def _zoned_form(type_: pa.DataType) -> StorageForm:
    """Instants: in microseconds as TIMESTAMPTZ; nanoseconds as UTC without a zone, which DuckDB 1.5 can still open.

    The zone's name is in the schema; no value depends on it.
    """
    if type_.unit == "ns":
        return StorageForm(
            sql_type="TIMESTAMP_NS",
            to_storage=lambda array: _viewed(array, pa.timestamp("ns")),
            from_storage=lambda array: array.view(type_),
        )
    utc, stored = pa.timestamp(type_.unit, "UTC"), pa.timestamp("us", "UTC")
    return StorageForm(
        sql_type="TIMESTAMPTZ",
        to_storage=lambda array: _viewed(array, utc).cast(stored),
        from_storage=lambda array: array.view(stored).cast(utc).view(type_),
    )


def _viewed(array: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([chunk.view(type_) for chunk in array.chunks], type=type_)
