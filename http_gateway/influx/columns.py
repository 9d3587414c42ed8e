"""Columns of values as the lines spell them, made into Arrow arrays: whole columns at a time, and nothing coerced."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from http_gateway.influx.grammar import FALSE, FLOAT, INTEGER, TRUE, UNSIGNED, plain_string

MOST_DIGITS = 20  # of 64 bits; more are not even counted
Texts = Sequence[str | None]

_TYPES = {
    f"^{FLOAT}$": pa.float64(),
    f"^{INTEGER}$": pa.int64(),
    f"^{UNSIGNED}$": pa.uint64(),
    f"^(?:{TRUE}|{FALSE})$": pa.bool_(),
}
NAMES = {
    pa.float64(): "a float",
    pa.int64(): "an integer",
    pa.uint64(): "an unsigned integer",
    pa.bool_(): "a boolean",
    pa.string(): "a string",
}


class ValueMistakeError(Exception):
    """A value that cannot be taken: where it is among the column's values, and why not."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason


def value_type(text: str) -> pa.DataType | None:
    """Return the type of one value; None if it has none."""
    if text.startswith('"'):
        return pa.string()
    for pattern, type_ in _TYPES.items():
        if pc.match_substring_regex(pa.scalar(text), pattern).as_py():
            return type_
    return None


def to_array(texts: Texts) -> pa.Array:
    """Convert the values of a field, which are of one type, null where there is none.

    Raises ``ValueMistakeError`` for the first value that has no type, another type than those before, or no room in it.
    """
    first = next(text for text in texts if text is not None)
    type_ = value_type(first)
    if type_ == pa.string():
        return _strings(texts)
    if type_ is None:
        raise ValueMistakeError(texts.index(first), _no_value(first))
    raw = pa.array(texts, pa.string())
    pattern = next(pattern for pattern, each in _TYPES.items() if each == type_)
    _check_all(texts, pc.match_substring_regex(raw, pattern), type_)
    return _converted(raw, texts, type_)


def to_stamps(texts: Texts, *, ns_per_unit: int) -> pa.Array:
    """Convert timestamps to nanoseconds since 1970; raises ``ValueMistakeError`` for one beyond 64 bits."""
    try:
        return pc.multiply_checked(pa.array(texts, pa.string()).cast(pa.int64()), ns_per_unit)
    except pa.ArrowInvalid:
        row = next(at for at, text in enumerate(texts) if text and not _fits(text, pa.int64(), factor=ns_per_unit))
        raise ValueMistakeError(row, "the timestamp is out of range: nanoseconds must fit 64 bits") from None


def _converted(raw: pa.Array, texts: Texts, type_: pa.DataType) -> pa.Array:
    if type_ == pa.bool_():
        return pc.match_substring_regex(raw, f"^(?:{TRUE})$")
    if type_ == pa.float64():
        values = pc.replace_substring_regex(raw, r"^\+", "").cast(type_)
        _check_finite(values)
        return values
    try:
        return pc.utf8_slice_codeunits(raw, 0, -1).cast(type_)
    except pa.ArrowInvalid:
        row = next(at for at, text in enumerate(texts) if text and not _fits(text[:-1], type_))
        raise ValueMistakeError(row, f"the value does not fit {type_}") from None


def _strings(texts: Texts) -> pa.Array:
    for row, text in enumerate(texts):
        if text is not None and not text.startswith('"'):
            raise ValueMistakeError(row, _other_type(text, pa.string()))
    return pa.array([plain_string(text) if text is not None else None for text in texts], pa.string())


def _check_all(texts: Texts, matched: pa.Array, type_: pa.DataType) -> None:
    if (row := pc.index(matched, False).as_py()) >= 0:
        text = texts[row]
        assert text is not None  # null is not false
        raise ValueMistakeError(row, _other_type(text, type_))


def _check_finite(values: pa.Array) -> None:
    if (row := pc.index(pc.is_finite(values), False).as_py()) >= 0:
        raise ValueMistakeError(row, "the value is beyond what a float holds")


def _fits(digits: str, type_: pa.DataType, *, factor: int = 1) -> bool:
    if len(digits.lstrip("-0")) > MOST_DIGITS:
        return False
    low, high = (-(2**63), 2**63) if type_ == pa.int64() else (0, 2**64)
    return low <= int(digits) * factor < high


def _other_type(text: str, type_: pa.DataType) -> str:
    other = value_type(text)
    if other is None:
        return _no_value(text)
    return f"this is {NAMES[other]}, and the lines before have {NAMES[type_]} in this field"


def _no_value(text: str) -> str:
    return f'{text[:40]!a} is no value: write 1.5, 1i, 1u, true or "text" (a float must be finite, and text in quotes)'
