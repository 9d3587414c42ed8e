"""Text to values of a type, exactly: what does not spell a value of the type is refused, never rounded or guessed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time

import pyarrow as pa
import pyarrow.compute as pc

_OFFSET = "([Zz]|[+-][0-9]{2}:[0-9]{2})"
_LOCAL = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
_INTEGER = "-?(0|[1-9][0-9]*)"
_NUMBER = rf"{_INTEGER}(\.[0-9]+)?([eE][-+]?[0-9]+)?"
_NO_NUMBERS = "nan|NaN|-?inf|-?Infinity"  # doubles that are none, as CSV may spell them

INSTANT = f"^{_LOCAL}{_OFFSET}$"  # RFC 3339
_PATTERNS: list[tuple[Callable[[pa.DataType], bool], str, str]] = [
    (pa.types.is_integer, f"^{_INTEGER}$", "a whole number"),
    (pa.types.is_floating, f"^({_NUMBER}|{_NO_NUMBERS})$", "a number"),
    (pa.types.is_decimal, f"^{_NUMBER}$", "a decimal number"),
    (pa.types.is_boolean, "^(true|false)$", "true or false"),
    (pa.types.is_date, "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "a date like 2026-01-31"),
    (pa.types.is_time, r"^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?$", "a time like 23:59:59.5"),
]
_FRACTION_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_FRACTION = re.compile(r"\.([0-9]+)")
_EXACT_DIGITS = 15  # integers of so many digits are doubles


class TextValueError(ValueError):
    """A text that is no value of a type: its place among the texts, and what it should be."""

    def __init__(self, place: int, expected: str) -> None:
        super().__init__(expected)
        self.place = place
        self.expected = expected


def can_be_text(type_: pa.DataType) -> bool:
    """Say whether ``parse_texts`` knows a type."""
    is_known = any(is_type(type_) for is_type, _, _ in _PATTERNS) or pa.types.is_timestamp(type_)
    return (is_known and not pa.types.is_float16(type_)) or is_text(type_)


def is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def describe(type_: pa.DataType) -> str:
    """Say what the text of a value looks like."""
    if pa.types.is_timestamp(type_):
        digits = _FRACTION_DIGITS[type_.unit]
        example = f"2026-01-31T12:00:00{'.' + '5'.ljust(min(digits, 3), '0') if digits else ''}"
        offset = "Z, with an offset" if type_.tz is not None else ", without an offset"
        return f"an RFC 3339 time like {example}{offset} and at most {digits} decimals"
    what = next((what for is_type, _, what in _PATTERNS if is_type(type_)), "text")
    return f"{what} that fits {type_}"


def is_time(text: str, type_: pa.DataType) -> bool:
    """Say whether a text spells a value of a type of times; false for any other type."""
    is_date, is_clock = pa.types.is_date(type_), pa.types.is_time(type_)
    if not (is_date or is_clock or pa.types.is_timestamp(type_)) or not re.fullmatch(_pattern(type_), text):
        return False
    fraction = _FRACTION.search(text)
    if fraction is not None and len(fraction[1].rstrip("0")) > _FRACTION_DIGITS[type_.unit]:
        return False
    parse = date.fromisoformat if is_date else time.fromisoformat if is_clock else datetime.fromisoformat
    try:
        parse(_FRACTION.sub("", text.upper()))
    except ValueError:
        return False
    return True


def parse_texts(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    """Turn texts into values, nulls into nulls; raises ``TextValueError`` for the first that is none."""
    if is_text(type_):
        return texts.cast(type_)
    wrong = pc.invert(pc.match_substring_regex(texts, _pattern(type_)))
    if (place := pc.index(wrong, True).as_py()) >= 0:
        raise TextValueError(place, describe(type_))
    try:
        values = _cast(texts, type_)
    except pa.ArrowInvalid:
        raise TextValueError(_first_failure(texts, type_), describe(type_)) from None
    if pa.types.is_floating(type_):
        _check_floats(texts, values)
    return values


def _pattern(type_: pa.DataType) -> str:
    if pa.types.is_timestamp(type_):
        return INSTANT if type_.tz is not None else f"^{_LOCAL}$"
    return next(pattern for is_type, pattern, _ in _PATTERNS if is_type(type_))


def _cast(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    if pa.types.is_time(type_):
        instants = _cast_times(pc.binary_join_element_wise("1970-01-01T", texts, ""), pa.timestamp(type_.unit))
        numbers = instants.cast(pa.int64())
        return (numbers.cast(pa.int32()) if pa.types.is_time32(type_) else numbers).cast(type_)
    return _cast_times(texts, type_) if pa.types.is_timestamp(type_) else texts.cast(type_)


def _cast_times(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    try:
        return texts.cast(type_)
    except pa.ArrowInvalid:  # perhaps letters in lower case, or zeros where the type has no digits
        digits = _FRACTION_DIGITS[type_.unit]
        kept, pattern = (
            (r"\1\3", rf"(\.[0-9]{{{digits}}})(0+)({_OFFSET}|$)") if digits else (r"\2", rf"(\.0+)({_OFFSET}|$)")
        )
        return pc.replace_substring_regex(pc.ascii_upper(texts), pattern, kept).cast(type_)


def _check_floats(texts: pa.Array, values: pa.Array) -> None:
    """Refuse numbers too large for the type, and whole numbers that are not exact in it."""
    spelled = pc.match_substring_regex(texts, f"^({_NO_NUMBERS})$")
    overflown = pc.and_(pc.is_inf(values), pc.invert(spelled))
    if (place := pc.index(overflown, True).as_py()) >= 0:
        raise TextValueError(place, describe(values.type))
    digits = 7 if pa.types.is_float32(values.type) else _EXACT_DIGITS
    long = pc.match_substring_regex(texts, f"^-?[0-9]{{{digits + 1},}}$")
    for place in pc.indices_nonzero(pc.fill_null(long, False)).to_pylist():
        if int(texts[place].as_py()) != int(values[place].as_py()):
            raise TextValueError(place, f"a whole number that {values.type} has exactly")


def _first_failure(texts: pa.Array, type_: pa.DataType) -> int:
    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(texts.slice(low, middle - low), type_)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
