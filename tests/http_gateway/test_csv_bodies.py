"""CSV becomes values of a schema exactly, or is refused with row and field."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_gateway import csv_bodies, text_chunks
from http_gateway.csv_bodies import open_csv
from http_gateway.row_texts import CsvText
from http_gateway.rows import Wanted
from http_gateway.text_chunks import line_chunks
from timestore.errors import TimestoreError

SCHEMA = pa.schema(
    [
        ("ts", pa.timestamp("us", "UTC")),
        ("n", pa.int64()),
        ("f", pa.float64()),
        ("d", pa.decimal128(20, 2)),
        ("up", pa.bool_()),
        ("t", pa.string()),
        ("raw", pa.binary()),
        pa.field("must", pa.int64(), nullable=False),
    ]
)
WANTED = Wanted(dataset=SCHEMA, timestamp_column=None)


def _rows(text: str | bytes, wanted: Wanted = WANTED) -> list[dict[str, Any]]:
    rows = open_csv(BytesIO(text.encode() if isinstance(text, str) else text), wanted)
    return [row for batch in rows.batches for row in batch.to_pylist()]


def test_values_survive() -> None:
    """Numbers keep their digits, quoted text is as it stands, and nothing is null but an empty field without quotes."""
    rows = _rows('n,d,t,up,f\n9007199254740993,1.5,"a ""b"",\nc",true,0.1\n,,"",,\n-1,0.25, x ,false,-inf\n')
    assert rows == [
        {"n": 2**53 + 1, "d": Decimal("1.50"), "t": 'a "b",\nc', "up": True, "f": 0.1},
        {"n": None, "d": None, "t": "", "up": None, "f": None},
        {"n": -1, "d": Decimal("0.25"), "t": " x ", "up": False, "f": float("-inf")},
    ]
    assert _rows(b"\xef\xbb\xbfn\r\n1\r\n\r\n2") == [{"n": 1}, {"n": 2}]
    assert _rows("n\n") == _rows("n") == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n", "1.0"),
        ("n", "0x10"),
        ("n", "007"),
        ("n", "+1"),
        ("n", " 1"),
        ("n", "9223372036854775808"),
        ("n", '""'),
        ("f", "x"),
        ("f", "1e400"),
        ("f", "9007199254740993"),
        ("d", "1.234"),
        ("up", "TRUE"),
        ("up", "1"),
        ("ts", "2026-01-31"),
        ("ts", "2026-01-31T12:00:00"),
        ("must", ""),
    ],
)
def test_nothing_is_coerced(name: str, text: str) -> None:
    """A text that does not spell a value of the column's type is refused, naming row and field."""
    good = "2026-01-31T12:00:00Z" if name == "ts" else "true" if name == "up" else "1"
    with pytest.raises(TimestoreError) as caught:
        _rows(f"{name},t\n{good},a\n{good},b\n{text},c\n")
    assert caught.value.kind == "schema_mismatch"
    assert caught.value.details == {"row": "2", "field": name}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "n,n\n1,2",
        "n,other\n1,2",
        "n,raw\n1,2",
        "n,t\n1\n",
        "n,t\n1,2,3\n",
        'n,t\n1,"cut',
        'n,t\n1,"x"y\n',
        "n,t\n1,5'10\"\n",
        'n,t\n1,a "b" c\n',
        b"n,t\n1,\xff\n",
        b"n,\xff\n1,2\n",
    ],
)
def test_what_is_no_csv(text: str | bytes) -> None:
    """Rows of other lengths, unknown or doubled columns, quotes without an end: refused."""
    with pytest.raises(TimestoreError):
        _rows(text)


FIELDS = st.text(st.sampled_from('ab,"\n\r é'), max_size=4)


@given(rows=st.lists(st.tuples(FIELDS, FIELDS), max_size=8), size=st.integers(1, 30), quoting=st.sampled_from([0, 1]))
def test_rows_are_cut_at_their_ends(rows: list[tuple[str, str]], size: int, quoting: int) -> None:
    """Wherever chunks end, each has whole rows, though fields have line breaks and quotes in them."""
    out = StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL, lineterminator="\r\n").writerows(rows)
    body = out.getvalue().encode()
    chunks = [chunk.lines for chunk in line_chunks(BytesIO(body), last_end=csv_bodies._last_row_end, chunk_bytes=size)]
    assert b"".join(chunks) == body
    parsed = [tuple(row) for chunk in chunks for row in csv.reader(StringIO(chunk.decode(), newline=""))]
    assert parsed == rows


@pytest.fixture(name="small_chunks")
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def chunks(source: Any, **said: Any) -> Iterator[text_chunks.TextChunk]:
        return line_chunks(source, chunk_bytes=1_000, **said)

    monkeypatch.setattr(csv_bodies, "line_chunks", chunks)
    return iter([None])


def test_what_is_read_can_be_sent(small_chunks: None) -> None:
    """CSV as the server writes it has the same rows when it is appended, in however many chunks."""
    schema = pa.schema([field for field in SCHEMA if field.name != "raw"])
    batch = pa.RecordBatch.from_pylist(
        [
            {"ts": 1, "n": None, "f": float("nan"), "d": Decimal("-0.01"), "up": None, "t": text, "must": row}
            for row, text in enumerate(["", None, '"', "a\r\nb", ",", "é", "NULL"] * 30)
        ],
        schema,
    )
    text = CsvText(schema)
    rows = open_csv(BytesIO(text.text(batch) + text.end()), Wanted(dataset=schema, timestamp_column=None))
    read = pa.Table.from_batches(list(rows.batches))
    assert read.num_rows == 210
    assert str(read.to_pylist()) == str(batch.to_pylist())  # NaN is equal to none
    assert len(read.column("n").chunks) > 3


def test_types_of_a_new_dataset() -> None:
    """Whole numbers, numbers, truth values and the one column of times get their types; identifiers stay text."""
    wanted = Wanted(dataset=None, timestamp_column=None)
    text = "t,n,f,up,id,long,mixed,none\n2026-01-31T12:00:00Z,1,0.5,true,007,12345678901234567890,1,\n"
    rows = open_csv(BytesIO(text.encode() + b"2026-01-31T12:00:00+01:00,,1,false,008,1,x,\n"), wanted)
    assert [str(field.type) for field in rows.schema] == [
        "timestamp[us, tz=UTC]",
        "int64",
        "double",
        "bool",
        "string",
        "string",
        "string",
        "string",
    ]
    assert sum(batch.num_rows for batch in rows.batches) == 2
