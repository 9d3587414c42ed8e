"""A value of a row as JSON, the one spelling for all that JSON has no form for."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from readers.plain.decoding import decode
from readers.plain.nested import build_nested, open_nested
from readers.plain.types import NESTED, child_fields, with_fields

_PER_SECOND = 1e9


def json_values(column: pa.Array) -> list[Any]:
    """Return a column's values as ``json_text`` takes them.

    Python has no values with nanoseconds: such times become text, and durations seconds.
    """
    return list(_without_nanoseconds(decode(column)).to_pylist())


def _without_nanoseconds(array: pa.Array) -> pa.Array:
    type_ = array.type
    if type_.id in NESTED:
        opened = open_nested(array)
        children = [_without_nanoseconds(child) for child in opened.children]
        fields = [field.with_type(child.type) for field, child in zip(child_fields(type_), children, strict=True)]
        return build_nested(with_fields(type_, fields), opened, children)
    if pa.types.is_timestamp(type_) and type_.unit == "ns":
        in_utc = array.cast(pa.timestamp("ns", type_.tz and "UTC")).cast(pa.timestamp("ns"))
        texts = pc.strftime(in_utc, format="%Y-%m-%dT%H:%M:%S")
        return pc.binary_join_element_wise(texts, "+00:00" if type_.tz else "", "")
    if type_ == pa.time64("ns"):
        return array.cast(pa.string())
    if type_ == pa.duration("ns"):
        return pc.divide(array.cast(pa.int64()).cast(pa.float64(), safe=False), _PER_SECOND)
    return array


def json_text(value: Any) -> str:
    """Spell a value as JSON, which has no numbers that are none: those become text."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_as_json, allow_nan=False)
    except ValueError:
        return json.dumps(_with_spelled_floats(value), ensure_ascii=False, default=_as_json)


def _with_spelled_floats(value: Any) -> Any:
    match value:
        case dict():
            return {name: _with_spelled_floats(item) for name, item in value.items()}
        case list() | tuple():
            return [_with_spelled_floats(item) for item in value]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _as_json(value: Any) -> Any:
    """Spell what JSON has no form for. Numbers of many digits become text, so that none is lost."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
    return str(value)
