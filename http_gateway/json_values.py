"""Says of JSON what is wrong with it, value by value: only rows that Arrow's parser refused, or might get wrong.

This touches each row, which takes a hundred times as long; so it looks at a few rows that are in doubt, and no others.
"""

from __future__ import annotations

import json
import math
import struct
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from http_gateway.text_values import describe, is_text, is_time
from timestore.errors import TimestoreError, error

SHOWN_CHARACTERS = 60

_EXACT = Context(prec=200)


class Number(str):
    """The text of a number, as it was sent."""

    __slots__ = ()

    @property
    def is_whole(self) -> bool:
        return not set(self) & set(".eE")


class Pairs(list[tuple[str, Any]]):
    """The fields of an object, of which one may stand there twice."""


def load(text: str | bytes) -> Any:
    """Parse JSON strictly; raises ``ValueError``. Numbers stay text, and objects ``Pairs``."""
    try:
        return json.loads(
            text, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant, object_pairs_hook=_pairs
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_lines(lines: bytes, schema: pa.Schema, *, columns: pa.Schema, first_row: int, may_be_blank: bool) -> None:
    """Raise what is wrong with rows, each on a line of its own; return if nothing is.

    ``schema`` has the columns that rows may have; ``columns`` all that the dataset has, for messages.
    """
    row = first_row
    for line in lines.split(b"\n"):
        if not line.strip() and may_be_blank:
            continue
        try:
            fields = load(line)
        except ValueError as exc:
            raise invalid(row, f"it is not valid JSON: {exc}") from exc
        if not isinstance(fields, Pairs):
            raise invalid(row, f"a row must be an object, not {_shown(fields)}")
        _check_row(fields, schema, columns, row)
        row += 1


def check_value(value: Any, field: pa.Field, row: int, name: str | None = None) -> None:
    """Raise ``schema_mismatch`` if a value is none of a field."""
    name = field.name if name is None else name
    if value is None:
        if not field.nullable:
            raise mismatch(row, name, "is null or missing, and may not be")
        return
    if pa.types.is_struct(field.type):
        _check_struct(value, field, row, name)
    elif pa.types.is_list(field.type):
        if not isinstance(value, list) or isinstance(value, Pairs):
            raise mismatch(row, name, f"is {_shown(value)}, not an array")
        for place, item in enumerate(value):
            check_value(item, field.type.value_field, row, f"{name}[{place}]")
    elif (expected := _problem(value, field.type)) is not None:
        raise mismatch(row, name, f"is {_shown(value)}, not {expected}")


def mismatch(row: int, name: str, problem: str) -> TimestoreError:
    return error(
        "schema_mismatch", f"row {row}: the field {name[:200]!r} {problem}", details={"row": row, "field": name}
    )


def invalid(row: int, problem: str) -> TimestoreError:
    return error("batch_invalid", f"row {row}: {problem}", details={"row": row})


def unknown_field(row: int, name: str, columns: pa.Schema) -> TimestoreError:
    """Build the refusal of a field that the rows may not have."""
    place = columns.get_field_index(name)
    if place >= 0:
        return error(
            "unsupported",
            f"row {row}: the field {name!r} is of type {columns.field(place).type}, which has no form here; send Arrow "
            "or Parquet",
            details={"row": row, "field": name},
        )
    return mismatch(row, name, f"is no column of the dataset, which has {columns.names}; send Arrow to add one")


def _check_row(fields: Pairs, schema: pa.Schema, columns: pa.Schema, row: int) -> None:
    values = _unique(fields, row, "")
    for name in values:
        if schema.get_field_index(name) < 0:
            raise unknown_field(row, name, columns)
    for field in schema:
        check_value(values.get(field.name), field, row)


def _check_struct(value: Any, field: pa.Field, row: int, name: str) -> None:
    if not isinstance(value, Pairs):
        raise mismatch(row, name, f"is {_shown(value)}, not an object")
    values = _unique(value, row, f"{name}.")
    children = {child.name: child for child in field.type.fields}
    for inner in values:
        if inner not in children:
            raise mismatch(row, f"{name}.{inner}", f"is no field of {name!r}, which has {list(children)}")
    for inner, child in children.items():
        check_value(values.get(inner), child, row, f"{name}.{inner}")


def _unique(fields: Pairs, row: int, prefix: str) -> dict[str, Any]:
    values = dict(fields)
    if len(values) != len(fields):
        names = [name for name, _ in fields]
        twice = next(name for name in names if names.count(name) > 1)
        raise mismatch(row, prefix + twice, "is there twice")
    return values


def _problem(value: Any, type_: pa.DataType) -> str | None:
    """Return what a value should be; None if it is that."""
    expected = describe(type_)
    match value:
        case bool():
            return None if pa.types.is_boolean(type_) else expected
        case Number():
            return _number_problem(value, type_, expected)
        case str():
            return _text_problem(value, type_, expected)
    return expected


def _number_problem(value: Number, type_: pa.DataType, expected: str) -> str | None:
    if pa.types.is_integer(type_):
        low, high = _range(type_)
        return None if value.is_whole and len(value) <= 20 and low <= int(value) <= high else expected
    if pa.types.is_floating(type_):
        return _float_problem(value, type_, expected)
    return _decimal_problem(value, type_, expected) if pa.types.is_decimal(type_) else expected


def _float_problem(value: Number, type_: pa.DataType, expected: str) -> str | None:
    number = float(value)
    try:
        stored = struct.unpack("<f", struct.pack("<f", number))[0] if pa.types.is_float32(type_) else number
    except OverflowError:
        stored = math.inf
    if math.isinf(stored):
        return expected
    if value.is_whole and int(Decimal(value)) != int(stored):
        return f"a whole number that {type_} has exactly"
    return None


def _decimal_problem(value: str, type_: pa.DataType, expected: str) -> str | None:
    try:
        number = Decimal(value).normalize(_EXACT)
    except InvalidOperation:
        return expected
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        return expected
    whole = len(digits) + exponent if number else 0
    return None if -exponent <= type_.scale and whole <= type_.precision - type_.scale else expected


def _text_problem(value: str, type_: pa.DataType, expected: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return "valid Unicode"
    if is_text(type_):
        return None
    if pa.types.is_decimal(type_):
        return _decimal_problem(value, type_, expected)
    return expected if not is_time(value, type_) else None


def _range(type_: pa.DataType) -> tuple[int, int]:
    bits = type_.bit_width
    return (0, 2**bits - 1) if pa.types.is_unsigned_integer(type_) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Number():
            return f"the number {value[:SHOWN_CHARACTERS]}"
        case str():
            return f"the text {value[:SHOWN_CHARACTERS]!a}"
        case Pairs():
            return "an object"
    return "an array"


def _pairs(fields: list[tuple[str, Any]]) -> Pairs:
    for name, _ in fields:
        name.encode()  # escapes can spell half characters, which no column has
    return Pairs(fields)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")
