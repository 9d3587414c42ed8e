"""Types for values that a file has as text. Nothing is guessed from the first rows, and nothing that loses a character.

A column's type is the one that was said; else the dataset's, if it exists; else the narrowest of boolean, 64-bit
integer, double and text that *every* value of the file fits. Times are never guessed: a column is one if it is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from timestore_app.cli.group import CommandFailedError

EPOCH_UNITS = ("s", "ms", "us", "ns")
TIMESTAMP = "timestamp"
_PLAIN_TYPES: dict[str, pa.DataType] = {
    str(type_): type_
    for type_ in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float32(), pa.float64(), pa.bool_(), pa.string()),
    )
} | {"float32": pa.float32(), "float64": pa.float64(), "text": pa.string()}
TYPE_NAMES = [*_PLAIN_TYPES, TIMESTAMP, *(f"timestamp[{unit}]" for unit in EPOCH_UNITS)]

# A whole number of more digits is an identifier, and so is one with zeros before it: both stay text.
_LOOKS_LIKE = {
    pa.bool_(): "^(true|false)$",
    pa.int64(): "^(0|-?[1-9][0-9]{0,17})$",
    pa.float64(): r"^-?((0|[1-9][0-9]{0,17})|(0|[1-9][0-9]*)(\.[0-9]+)([eE][-+]?[0-9]+)?|[1-9][eE][-+]?[0-9]+)$",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRules:
    """What was said about the types of text."""

    timestamp_column: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)  # by column
    time_format: str = "rfc3339"  # rfc3339, iso, s, ms, us, ns, or a pattern with %
    time_zone: str | None = None  # that times without an offset are of
    nulls: tuple[str, ...] = ()  # what else but an empty field means null
    dataset: pa.Schema | None = None  # of the dataset, if it exists

    def said_type(self, column: str) -> pa.DataType | None:
        """Return the type that a column must have; None if its values decide."""
        name = self.types.get(column) or (TIMESTAMP if column == self.timestamp_column else None)
        known = self.dataset.field(column).type if self.dataset is not None and column in self.dataset.names else None
        if known is not None and name in {None, TIMESTAMP}:
            return known
        return self._named_type(name) if name is not None else None

    def _named_type(self, name: str) -> pa.DataType:
        if (plain := _PLAIN_TYPES.get(name)) is not None:
            return plain
        unit = name.removeprefix("timestamp").strip("[]") or (
            self.time_format if self.time_format in EPOCH_UNITS else "us"
        )
        return pa.timestamp(unit, "UTC" if self.gives_instants else None)

    @property
    def gives_instants(self) -> bool:
        """Whether times say which instant they are, and not only what a clock showed."""
        return self.time_format in {"rfc3339", *EPOCH_UNITS} or self.time_zone is not None


class TypeGuess:
    """Finds the narrowest type that every value of a column has."""

    def __init__(self) -> None:
        self._possible = dict(_LOOKS_LIKE)
        self._seen = False

    def look(self, values: pa.Array) -> None:
        """Take more values; those that mean null are left out."""
        self._seen = self._seen or len(values) > 0
        for type_, pattern in list(self._possible.items()):
            if not pc.all(pc.match_substring_regex(values, pattern), min_count=0).as_py():
                del self._possible[type_]

    def type(self) -> pa.DataType:
        return next(iter(self._possible), pa.string()) if self._seen else pa.string()


def means_null(values: pa.Array, rules: TextRules, type_: pa.DataType | None) -> pa.Array:
    """Say where a text means null: where it was said so, and where it is empty, unless the column is one of text."""
    spelled = pc.is_in(values, value_set=pa.array(rules.nulls, pa.string()))
    if type_ is not None and pa.types.is_string(type_):
        return spelled
    return pc.or_(spelled, pc.equal(values, ""))


def parse_texts(values: pa.Array, type_: pa.DataType, rules: TextRules) -> pa.Array:
    """Turn texts into values of a type; raises ``pa.ArrowInvalid`` for the first that is none."""
    if not pa.types.is_timestamp(type_):
        return values.cast(type_)
    parsed = _parse_times(values, type_.unit, rules)
    if (parsed.type.tz is None) != (type_.tz is None):
        kind, other = ("instants", "times without a zone") if parsed.type.tz else ("times without a zone", "instants")
        raise CommandFailedError(
            f"--time-format {rules.time_format} gives {kind}, and the column has {other}; see --time-zone"
        )
    return parsed.cast(type_)


def first_failure(values: pa.Array, type_: pa.DataType, rules: TextRules) -> tuple[int, Any]:
    """Return the place and text of the first value that is none of a type."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            parse_texts(values.slice(low, middle - low), type_, rules)
            low = middle
        except pa.ArrowException:
            high = middle
    return low, values[low].as_py()


def _parse_times(texts: pa.Array, unit: str, rules: TextRules) -> pa.Array:
    match rules.time_format:
        case "rfc3339":
            return texts.cast(pa.timestamp(unit, "UTC"))
        case "iso":
            local = texts.cast(pa.timestamp(unit))
        case epoch if epoch in EPOCH_UNITS:
            return (
                texts.cast(pa.int64())
                .cast(pa.timestamp(epoch))
                .cast(pa.timestamp(unit))
                .cast(pa.timestamp(unit, "UTC"))
            )
        case pattern:
            local = pc.strptime(texts, format=pattern, unit=unit)
    if rules.time_zone is None:
        return local
    return pc.assume_timezone(local, rules.time_zone).cast(pa.timestamp(unit, "UTC"))
