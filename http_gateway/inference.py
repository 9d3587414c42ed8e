"""The types of a dataset that does not exist yet, from the first rows of its first put.

Whole numbers become int64, other numbers float64, true and false bool. One column of RFC 3339 times becomes the
timestamp column; all the rest is text. What comes later must fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from http_gateway.json_values import Number, Pairs, invalid, load, mismatch
from http_gateway.text_values import INSTANT
from timestore.errors import TimestoreError, error

TIMESTAMP = pa.timestamp("us", "UTC")

_INSTANT = re.compile(INSTANT)
# A whole number of more digits is an identifier, and so is one with zeros before it: in CSV both stay text.
_CSV_PATTERNS: list[tuple[pa.DataType, str]] = [
    (pa.bool_(), "^(true|false)$"),
    (pa.int64(), "^(0|-?[1-9][0-9]{0,17})$"),
    (pa.float64(), r"^-?((0|[1-9][0-9]{0,14})|(0|[1-9][0-9]*)(\.[0-9]+)([eE][-+]?[0-9]+)?|[1-9][eE][-+]?[0-9]+)$"),
]


def infer_from_rows(lines: bytes, timestamp_column: str | None) -> pa.Schema:
    """Find the types of JSON rows, each on its own line; raises ``batch_invalid`` or ``schema_mismatch``."""
    columns: dict[str, _Seen] = {}
    rows = (line for line in lines.split(b"\n") if line.strip())
    for row, line in enumerate(rows):
        try:
            fields = load(line)
        except ValueError as exc:
            raise invalid(row, f"it is not valid JSON: {exc}") from exc
        if not isinstance(fields, Pairs):
            raise invalid(row, "a row must be an object")
        for name, value in fields:
            columns.setdefault(name, _Seen(name)).look(value, row)
    return _schema({name: seen.type for name, seen in columns.items()}, _times(columns), timestamp_column)


def infer_from_columns(arrays: Mapping[str, Sequence[object]], timestamp_column: str | None) -> pa.Schema:
    """Find the types of JSON columns; raises ``schema_mismatch``."""
    columns = {name: _Seen(name) for name in arrays}
    for name, values in arrays.items():
        for row, value in enumerate(values):
            columns[name].look(value, row)
    return _schema({name: seen.type for name, seen in columns.items()}, _times(columns), timestamp_column)


def infer_from_texts(batch: pa.RecordBatch, timestamp_column: str | None) -> pa.Schema:
    """Find the types of columns of text, in which null is nothing; raises ``schema_mismatch``."""
    types, times = {}, []
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        known = values.drop_null()
        types[name] = next((type_ for type_, pattern in _CSV_PATTERNS if _all_match(known, pattern)), pa.string())
        if _all_match(known, INSTANT):
            times.append(name)
    return _schema(types, times, timestamp_column)


class _Seen:
    """What the values of one column were so far."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kinds: set[str] = set()
        self.only_times = True

    def look(self, value: Any, row: int) -> None:
        if value is None:
            return
        kind = self._kind_of(value, row)
        if self._kinds and (self._kinds | {kind}) not in ({kind}, {"whole", "number"}):
            first = next(iter(self._kinds))
            raise mismatch(row, self._name, f"is {_NAMES[kind]}, and {_NAMES[first]} in a row before; {_SAY}")
        self._kinds.add(kind)
        self.only_times = self.only_times and kind == "text" and _INSTANT.match(value) is not None

    @property
    def has_times(self) -> bool:
        return bool(self._kinds) and self.only_times

    @property
    def type(self) -> pa.DataType:
        if "number" in self._kinds:
            return pa.float64()
        return next((_TYPES[kind] for kind in self._kinds), pa.string())

    def _kind_of(self, value: Any, row: int) -> str:
        match value:
            case bool():
                return "flag"
            case Number():
                return "whole" if value.is_whole else "number"
            case str():
                return "text"
        raise mismatch(row, self._name, f"is an object or an array, for which no type is chosen; {_SAY}")


_SAY = "create the dataset first, with the types that it should have (create_dataset, or a first put as Arrow)"
_NAMES = {"flag": "true or false", "whole": "a number", "number": "a number", "text": "text"}
_TYPES = {"flag": pa.bool_(), "whole": pa.int64(), "text": pa.string()}


def _times(columns: Mapping[str, _Seen]) -> list[str]:
    return [name for name, seen in columns.items() if seen.has_times]


def _schema(types: Mapping[str, pa.DataType], times: Iterable[str], said: str | None) -> pa.Schema:
    timestamp_column = _timestamp_column(types, list(times), said)
    return pa.schema([(name, TIMESTAMP if name == timestamp_column else type_) for name, type_ in types.items()])


def _timestamp_column(types: Mapping[str, pa.DataType], times: list[str], said: str | None) -> str:
    if said is not None:
        if said not in types:
            raise _unclear(f"there is no column {said!r} among {list(types)[:50]}")
        return said
    if len(times) != 1:
        which = f"several columns have times: {times[:50]}" if times else f"none of the columns {list(types)[:50]} has"
        raise _unclear(f"{which}; say ?timestamp_column= with the one" if times else which)
    return times[0]


def _unclear(problem: str) -> TimestoreError:
    return error(
        "schema_mismatch",
        f"the dataset does not exist yet, and which column its timestamps are in is not clear: {problem}. It needs a "
        "column of RFC 3339 times with an offset, such as 2026-01-31T12:00:00Z, named by ?timestamp_column= if there "
        "are several",
    )


def _all_match(values: pa.Array, pattern: str) -> bool:
    return bool(len(values)) and bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())
