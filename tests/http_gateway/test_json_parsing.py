"""JSON becomes values of a schema exactly, or is refused with row and field."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from http_gateway.json_array import array_chunks
from http_gateway.json_bodies import open_columns, open_lines
from http_gateway.json_parsing import JsonRows
from http_gateway.rows import Wanted
from http_gateway.text_chunks import line_chunks
from timestore.errors import TimestoreError

SCHEMA = pa.schema(
    [
        ("ts", pa.timestamp("us", "UTC")),
        ("i8", pa.int8()),
        ("i64", pa.int64()),
        ("u64", pa.uint64()),
        ("f32", pa.float32()),
        ("f64", pa.float64()),
        ("dec", pa.decimal128(38, 10)),
        ("flag", pa.bool_()),
        ("text", pa.large_string()),
        ("tag", pa.string()),
        ("day", pa.date32()),
        ("local", pa.timestamp("ms")),
        ("clock", pa.time64("us")),
        ("many", pa.list_(pa.int64())),
        ("one", pa.struct([("x", pa.float64()), ("y", pa.string())])),
        pa.field("must", pa.int32(), nullable=False),
    ]
)
TS = '"2026-01-01T00:00:00Z"'


def _parsed(text: str | bytes, *, may_be_blank: bool = True) -> list[dict[str, Any]]:
    lines = text.encode() if isinstance(text, str) else text
    batch = JsonRows(SCHEMA, columns=SCHEMA).parse(lines, may_be_blank=may_be_blank)
    batch.validate(full=True)
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows


def _value(name: str, text: str) -> Any:
    [row] = _parsed(f'{{"must":1,"{name}":{text}}}')
    return row[name]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("i64", "9223372036854775807", 2**63 - 1),
        ("i64", "-9223372036854775808", -(2**63)),
        ("i64", "9007199254740993", 2**53 + 1),
        ("u64", "18446744073709551615", 2**64 - 1),
        ("f64", "0.1", 0.1),
        ("f64", "-0.0", -0.0),
        ("f64", "9007199254740992", 2.0**53),
        ("f64", "1e300", 1e300),
        ("dec", "1234567890123456789012345678.0123456789", Decimal("1234567890123456789012345678.0123456789")),
        ("dec", '"0.1"', Decimal("0.1000000000")),
        ("text", r'"\ud83d\ude00\n\"\\ \u0000"', '\U0001f600\n"\\ \0'),
        ("many", "[1,null,9223372036854775807]", [1, None, 2**63 - 1]),
        ("one", '{"x":0.5}', {"x": 0.5, "y": None}),
        ("flag", "false", False),
        ("i8", "null", None),
    ],
)
def test_values_survive(name: str, text: str, value: Any) -> None:
    """Every digit of a number and every character of a text arrives, nested ones too."""
    assert _value(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "micros"),
    [
        ("ts", '"2026-01-31T12:00:00Z"', "2026-01-31 12:00:00Z"),
        ("ts", '"2026-01-31t12:00:00.123456z"', "2026-01-31 12:00:00.123456Z"),
        ("ts", '"2026-01-31 12:00:00+05:30"', "2026-01-31 06:30:00Z"),
        ("ts", '"2026-01-31T12:00:00.120000000Z"', "2026-01-31 12:00:00.120000Z"),
        ("local", '"2026-01-31T12:00:00.5"', "2026-01-31 12:00:00.500"),
        ("clock", '"23:59:59.000001"', "23:59:59.000001"),
        ("day", '"2026-02-28"', "2026-02-28"),
    ],
)
def test_times_survive(name: str, text: str, micros: str) -> None:
    """Times are RFC 3339; what an offset says counts, and zeros beyond the type's digits do not."""
    batch = JsonRows(SCHEMA, columns=SCHEMA).parse(f'{{"must":1,"{name}":{text}}}'.encode(), may_be_blank=True)
    shown = batch.column(name).cast(pa.string())[0].as_py()
    assert shown.startswith(micros.removesuffix("Z"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("i64", "1.0"),
        ("i64", "1e3"),
        ("i64", '"1"'),
        ("i64", "true"),
        ("i64", "9223372036854775808"),
        ("i8", "128"),
        ("u64", "-1"),
        ("f64", '"1"'),
        ("f64", "9007199254740993"),
        ("f32", "16777217"),
        ("f32", "1e39"),
        ("dec", "0.12345678901"),
        ("dec", "true"),
        ("flag", "1"),
        ("flag", '"true"'),
        ("text", "5"),
        ("text", "null5"),
        ("ts", '"2026-01-31T12:00:00"'),
        ("ts", '"2026-01-31"'),
        ("ts", '"2026-02-30T12:00:00Z"'),
        ("ts", '"2026-01-31T12:00:00.1234567Z"'),
        ("ts", "1769860800"),
        ("local", '"2026-01-31T12:00:00Z"'),
        ("day", '"2026-13-01"'),
        ("day", "1"),
        ("clock", '"24:00:00"'),
        ("many", "[1.5]"),
        ("many", "7"),
        ("one", '{"z":1}'),
        ("one", "[]"),
        ("must", "null"),
    ],
)
def test_nothing_is_coerced(name: str, text: str) -> None:
    """A value that is not exactly one of the column's type is refused, naming its row and field."""
    good = '{"must":1}\n' * 3
    row = f'{{"{name}":{text}}}' if name == "must" else f'{{"must":1,"{name}":{text}}}'
    with pytest.raises(TimestoreError) as caught:
        _parsed(f"{good}{row}\n{good}")
    assert caught.value.details["row"] == "3"
    if text != "null5":  # which is no JSON at all
        assert caught.value.kind == "schema_mismatch"
        assert name in caught.value.message
        assert caught.value.details["field"].startswith(name)


@pytest.mark.parametrize(
    "row",
    [
        "null",
        "5",
        '"x"',
        "[]",
        '[{"must":1}]',
        '{"must":1} null',
        '{"must":1} {"must":2}',
        '{"must":1',
        '{"must":1,}',
        '{"must":01}',
        '{"must":1}}',
        '{"must":1,"f64":NaN}',
        '{"must":1,"f64":-Infinity}',
        '{"must":1,"many":[NaN]}',
        '{"must":1,"must":2}',
        '{"must":1,"other":1}',
        '{"must":1,"text":"\t"}',
        '{"must":1,"text":"\\ud800"}',
        '{"must":1,"\\ud800":1}',
        "\ufeff{}",
        "x",
        "{" * 5_000,
        "[" * 100_000,
    ],
)
def test_what_is_no_row(row: str) -> None:
    """A line that is not one object with the columns, each once, is refused by its number, and crashes nothing."""
    with pytest.raises(TimestoreError) as caught:
        _parsed('{"must":1}\n' * 2 + row + '\n{"must":1}')
    assert caught.value.details["row"] == "2"


def test_bytes_that_are_no_text() -> None:
    """A text that is not UTF-8 is refused."""
    with pytest.raises(TimestoreError) as caught:
        _parsed(b'{"must":1,"tag":"\xff"}')
    assert caught.value.kind == "batch_invalid"


def test_blank_lines_are_no_rows() -> None:
    """Blank lines between rows are left out, whatever ends a line, and the last line needs no end."""
    rows = _parsed('\n{"must":1}\r\n\r\n  \n{"must":2}\n\n{"must":3}')
    assert [row["must"] for row in rows] == [1, 2, 3]
    assert _parsed("") == _parsed("\n \n") == []


def test_texts_that_look_like_trouble() -> None:
    """What would be wrong between rows is right within a text."""
    texts = ["} null", "NaN", '"}\\', "}\n{", "Infinity, [", "\u2028"]
    lines = "\n".join(json.dumps({"must": 1, "text": text}) for text in texts)
    assert [row["text"] for row in _parsed(lines)] == texts


JSON_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    rows=st.lists(NESTED, max_size=8),
    chunk_bytes=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
)
@example(rows=[], chunk_bytes=1, indent=None, ascii_only=True)
@example(rows=["\\", '\\"', "]", ",", "[{"], chunk_bytes=1, indent=None, ascii_only=True)
def test_an_array_is_cut_between_its_elements(
    rows: list[Any], chunk_bytes: int, indent: int | None, ascii_only: bool
) -> None:
    """Wherever chunks end, an array's elements come one to a line, unchanged and all of them."""
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode()
    source = BytesIO(text.lstrip()[1:] + b" \n")
    lines = [chunk.lines for chunk in array_chunks(source, chunk_bytes=chunk_bytes)]
    assert [json.loads(line) for chunk in lines if chunk for line in chunk.split(b"\n")] == rows


@pytest.mark.parametrize("text", ["", "1", "1,2", '"]', "[1", "{]", "1]]", "1] 2", "1}", '"\\"]', "1],"])
@pytest.mark.parametrize("chunk_bytes", [1, 3, 100])
def test_an_array_without_its_end(text: str, chunk_bytes: int) -> None:
    """An array that was cut, or has something after it, is refused, wherever chunks end."""
    with pytest.raises(TimestoreError):
        for _ in array_chunks(BytesIO(text.encode()), chunk_bytes=chunk_bytes):
            pass


@pytest.mark.parametrize("text", ["{},]", ",]", ",{}]", "{},,{}]", " , ]"])
@pytest.mark.parametrize("chunk_bytes", [1, 100])
def test_an_array_with_holes(text: str, chunk_bytes: int) -> None:
    """A comma that separates nothing is refused: not even an empty element goes missing unseen."""
    rows = JsonRows(pa.schema([("a", pa.int64())]), columns=SCHEMA)
    chunks = array_chunks(BytesIO(text.encode()), chunk_bytes=chunk_bytes)
    with pytest.raises(TimestoreError):
        [rows.parse(chunk.lines, may_be_blank=False) for chunk in chunks if chunk.has_rows]


@given(
    lines=st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    size=st.integers(1, 20),
)
def test_lines_are_cut_at_their_ends(lines: list[bytes], size: int) -> None:
    """Wherever chunks end, each has whole lines, and together they are the body."""
    body = b"\n".join(lines)
    chunks = [chunk.lines for chunk in line_chunks(BytesIO(body), chunk_bytes=size)]
    assert b"".join(chunks) == body
    assert all(chunk.endswith(b"\n") for chunk in chunks[:-1])


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
WITHIN = pa.schema([("i", pa.int64()), ("f", pa.float64()), ("t", pa.string()), ("n", pa.list_(pa.float64()))])


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "i": NUMBERS | st.none() | st.booleans() | st.text(max_size=2),
                "f": NUMBERS | st.none() | st.text(max_size=2),
                "t": st.text(st.characters(codec="utf-8"), max_size=6) | st.none() | NUMBERS,
                "n": st.lists(NUMBERS | st.none(), max_size=2) | st.none(),
            },
        ),
        min_size=1,
        max_size=4,
    )
)
def test_rows_arrive_as_they_are_or_not_at_all(rows: list[dict[str, Any]]) -> None:
    """Whatever rows there are: each value arrives equal and of its own type, or the rows are refused."""
    parser = JsonRows(WITHIN, columns=WITHIN)
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    if all(_fits(row) for row in rows):
        batch = parser.parse(lines, may_be_blank=False)
        assert batch.to_pylist() == [{name: row.get(name) for name in WITHIN.names} for row in rows]
        return
    with pytest.raises(TimestoreError) as caught:
        parser.parse(lines, may_be_blank=False)
    assert caught.value.kind == "schema_mismatch"


def _fits(row: dict[str, Any]) -> bool:
    def is_float(value: Any) -> bool:
        return isinstance(value, float) or (type(value) is int and int(float(value)) == value)

    whole, number, text, many = (row.get(name) for name in WITHIN.names)
    return (
        (whole is None or type(whole) is int)
        and (number is None or is_float(number))
        and (text is None or isinstance(text, str))
        and (many is None or all(item is None or is_float(item) for item in many))
    )


WANTED = Wanted(
    dataset=pa.schema([("ts", pa.timestamp("us", "UTC")), ("a", pa.int64()), ("b", pa.string())]), timestamp_column=None
)


def _columns(text: str) -> tuple[list[str], list[dict[str, Any]]]:
    rows = open_columns(text.encode(), WANTED)
    return rows.schema.names, [row for batch in rows.batches for row in batch.to_pylist()]


def test_columns() -> None:
    """An object of arrays is as many rows as these have items; only the columns that it names are sent."""
    names, rows = _columns('{"a": [1, null, 9007199254740993], "b": ["]", "x", null]}')
    assert names == ["a", "b"]
    assert rows == [{"a": 1, "b": "]"}, {"a": None, "b": "x"}, {"a": 2**53 + 1, "b": None}]
    assert _columns('{"a": []}') == (["a"], [])


@pytest.mark.parametrize(
    "text",
    [
        '{"a":[1],"b":[]}',
        '{"a":[1],"c":[1]}',
        '{"a":1}',
        '{"a":null}',
        '{"a":[1.5]}',
        '{"a":["1"]}',
        '{"a":[1],"a":[1]}',
        '{"a":[1]} null',
        '{"a":[1]}{"a":[2]}',
        '{"a":[1]',
        '{"a":[NaN]}',
        '{"ts":["2026-01-01"]}',
        '{"a":{"x":[1]}}',
        "{}x",
        "{1:2}",
    ],
)
def test_what_are_no_columns(text: str) -> None:
    """Anything but one object of arrays of one length, with values of the columns' types, is refused."""
    with pytest.raises(TimestoreError) as caught:
        _columns(text)
    assert caught.value.kind in {"batch_invalid", "schema_mismatch"}


def test_a_short_body_has_the_columns_that_it_names() -> None:
    """Rows of one chunk are typed by the columns that they have; of more, by all that the dataset has."""
    short = open_lines(BytesIO(b'{"ts":%s,"a":1}\n' % TS.encode()), WANTED)
    long = open_lines(BytesIO(b'{"ts":%s,"a":1}\n' % TS.encode() * 40_000), WANTED)
    assert short.schema.names == ["ts", "a"]
    assert long.schema.names == ["ts", "a", "b"]
    assert sum(batch.num_rows for batch in long.batches) == 40_000
