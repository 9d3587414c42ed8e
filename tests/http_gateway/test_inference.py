"""Types of a dataset that does not exist yet come from its first rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from http_gateway.inference import infer_from_columns, infer_from_rows
from timestore.errors import TimestoreError

NOW = '"2026-01-31T12:00:00.5Z"'


def _types(text: str, timestamp_column: str | None = None) -> dict[str, str]:
    schema = infer_from_rows(text.encode(), timestamp_column)
    return {field.name: str(field.type) for field in schema}


def test_each_kind_of_value_has_a_type() -> None:
    """Integers become int64, decimals float64, the one column of times the timestamp, and the rest text."""
    text = f'{{"at":{NOW},"n":1,"f":1,"t":"x","up":true,"none":null}}\n{{"at":{NOW},"f":0.5,"later":"2026-01-31"}}'
    assert _types(text) == {
        "at": "timestamp[us, tz=UTC]",
        "n": "int64",
        "f": "double",
        "t": "string",
        "up": "bool",
        "none": "string",
        "later": "string",
    }


def test_several_columns_of_times() -> None:
    """Where several columns could be the timestamp, none is chosen: the refusal says how to name one."""
    text = f'{{"a":{NOW},"b":{NOW}}}'
    with pytest.raises(TimestoreError, match=r"\['a', 'b'\].*timestamp_column=") as caught:
        _types(text)
    assert caught.value.kind == "schema_mismatch"
    assert _types(text, "b") == {"a": "string", "b": "timestamp[us, tz=UTC]"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a":1}', None),
        ('{"a":"2026-01-31T12:00:00"}', None),
        ('{"a":null}', None),
        (f'{{"a":{NOW}}}\n{{"a":"soon"}}', None),
        (f'{{"a":{NOW}}}', "b"),
        ("", None),
    ],
)
def test_no_column_of_times(text: str, said: str | None) -> None:
    """Without a column whose every value is a time with an offset, nothing is created."""
    with pytest.raises(TimestoreError) as caught:
        _types(text, said)
    assert caught.value.kind == "schema_mismatch"


@pytest.mark.parametrize("second", ['"x"', "true", "[1]", "{}"])
def test_a_column_of_several_kinds(second: str) -> None:
    """A column of numbers and something else has no type: the refusal names the row and field where that begins."""
    with pytest.raises(TimestoreError) as caught:
        _types(f'{{"at":{NOW},"n":1}}\n{{"n":null}}\n{{"n":{second}}}')
    assert (caught.value.details["row"], caught.value.details["field"]) == ("2", "n")


def test_columns_have_types_like_rows() -> None:
    """An object of columns has the types that its rows would have."""
    schema = infer_from_columns({"at": ["2026-01-31T12:00:00Z"], "x": [None], "up": [True]}, None)
    assert schema == pa.schema([("at", pa.timestamp("us", "UTC")), ("x", pa.string()), ("up", pa.bool_())])
