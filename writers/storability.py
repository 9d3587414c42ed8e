"""Whether every value can be stored: whatever lands must seal, so DuckDB is never the first to say no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from readers.forms.refusals import child_place
from readers.plain import plain_batch, plain_schema
from readers.plain.assembling import NullKeyError, Opened
from readers.plain.decoding import decode
from readers.plain.identity import value_codes
from readers.plain.nested import open_nested
from readers.plain.types import NESTED, child_fields
from timestore.errors import TimestoreError, error
from timestore.windows import UNITS_PER_SECOND


@dataclass(frozen=True, slots=True)
class _Violation:
    """Why some values cannot be stored."""

    kind: str
    place: str
    what: str


class StorableRows:
    """Makes the batches of one put plain, in order, and refuses what cannot be stored. Not thread safe."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = [(index, field) for index, field in enumerate(plain_schema(schema)) if _needs_looking(field)]
        self._rows = 0

    def plain(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a valid batch in plain columns.

        Raises ``value_not_storable``, or ``batch_invalid`` for nulls where there may be none. Messages name the first
        offending row of a column, counted from 0 over the whole put.
        """
        try:
            plain = plain_batch(batch)
        except NullKeyError:
            self._refuse_null_key(batch)
            raise
        for index, field in self._columns:
            column = plain.column(index)
            if (found := _violation(column, field, field.name)) is not None:
                raise self._refusal(found, field.name, _first_row(column, partial(_is_violated, field)))
        self._rows += plain.num_rows
        return plain

    def _refuse_null_key(self, batch: pa.RecordBatch) -> None:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if _has_null_key(column):
                found = _Violation("value_not_storable", name, "has a map with a null key")
                raise self._refusal(found, name, _first_row(column, _has_null_key))

    def _refusal(self, found: _Violation, column: str, row: int) -> TimestoreError:
        return error(
            found.kind,
            f"row {self._rows + row}: {found.place!r} {found.what}",
            details={"row": self._rows + row, "column": column, "place": found.place},
        )


def _needs_looking(field: pa.Field) -> bool:
    type_ = field.type
    if not field.nullable or type_.id == pa.lib.Type_MAP or _microsecond_limit(type_) is not None:
        return True
    return type_.id in NESTED and any(_needs_looking(child) for child in child_fields(type_))


def _first_row(column: pa.Array, fails: Callable[[pa.Array], bool]) -> int:
    """Return the first row that cannot be stored, by halving: rows do not depend on each other."""
    first, rows = 0, len(column)
    while rows > 1:
        half = rows // 2
        if fails(column.slice(first, half)):
            rows = half
        else:
            first, rows = first + half, rows - half
    return first


def _is_violated(field: pa.Field, rows: pa.Array) -> bool:
    return _violation(rows, field, field.name) is not None


def _has_null_key(column: pa.Array) -> bool:
    try:
        decode(column)
    except NullKeyError:
        return True
    return False


def _violation(array: pa.Array, field: pa.Field, place: str, *, parent_nulls: int = 0) -> _Violation | None:
    """Return why an array cannot be stored, None if it can. As many of its nulls are its parent's."""
    if not field.nullable and array.null_count > parent_nulls:
        return _Violation("batch_invalid", place, "is null, but declared not null")
    type_ = field.type
    if (limit := _microsecond_limit(type_)) is not None and _exceeds(array, limit):
        return _Violation("value_not_storable", place, "is a timestamp that does not fit 64 bits of microseconds")
    if type_.id not in NESTED:
        return None
    opened = open_nested(array)
    if type_.id == pa.lib.Type_MAP and (what := _wrong_keys(opened)):
        return _Violation("value_not_storable", place, what)
    nulls = array.null_count if type_.id == pa.lib.Type_STRUCT else 0
    for position, child in enumerate(child_fields(type_)):
        inner = child_place(place, type_, child, position)
        if found := _violation(opened.children[position], child, inner, parent_nulls=nulls):
            return found
    return None


def _microsecond_limit(type_: pa.DataType) -> int | None:
    if pa.types.is_timestamp(type_) and type_.unit in ("s", "ms"):
        return int(2**63 // (1_000_000 // UNITS_PER_SECOND[type_.unit]))
    return None


def _exceeds(array: pa.Array, limit: int) -> bool:
    extremes = pc.min_max(array.view(pa.int64())).as_py()
    return extremes["min"] is not None and bool(extremes["min"] < -limit or extremes["max"] >= limit)


def _wrong_keys(opened: Opened) -> str | None:
    keys = opened.children[0]
    assert opened.offsets is not None  # maps have
    codes = value_codes(keys, bitwise=False)  # as DuckDB compares: all NaNs are equal, and so are 0.0 and -0.0
    rows = np.repeat(np.arange(opened.rows), np.diff(opened.offsets))
    pairs = rows * (int(codes.max(initial=0)) + 1) + codes
    return "has a key twice" if len(np.unique(pairs)) < len(pairs) else None
