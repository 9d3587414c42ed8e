"""Schemas that somebody could send, and what becomes of each."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import timestore
from readers.duckdb_memory import MAX_FIELDS
from tests.fixtures.data import START
from tests.fixtures.files import manifest_paths, read_with_duckdb
from tests.fixtures.raw_put import RawPut, command
from timestore.errors import InvalidInputError, TimestoreError
from writers.schemas import MAX_DEPTH, MAX_SCHEMA_BYTES

TS = pa.array([START, START + 1], pa.int64()).view(pa.timestamp("us", "UTC"))
ODD_NAMES = [
    *("rowid", "_rowid_", "rowid\u200b", "oid", "ctid", "tableoid", "file_row_number", "filename", "file_index"),
    *("data", "incoming", "file", "timestore_file", "column0", "select", "NULL", "true", "*", "?", "$1", "%s", "{x}"),
    *("a b", 'a"b', "a'b", "a`b", "a\\b", "a;--", "a\nb", "a\tb", "\x01", "\x7f", " ", ".", "..", "/", "a.b", "a[0]"),
    *("日本", "é", "e\u0301", "\u202e", "\U0001f600", "\u0130", "\ufb00", "\ufeff", "\ud7ff", "x" * 5_000),
]


def _refused(client: timestore.Client, sent: pa.Table, **options: Any) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        client.append("odd", sent, **options)
    assert caught.value.kind == "schema_mismatch"
    assert client.datasets() == []
    return caught.value


def test_any_name_comes_back(client: timestore.Client) -> None:
    """Names that mean something to DuckDB, SQL or a terminal are names like others, together and one by one."""
    columns = {name: pa.array([number, None], pa.int16()) for number, name in enumerate(ODD_NAMES)}
    sent = pa.table({"ts": TS, **columns})

    client.append("odd", sent)

    assert client.read("odd").equals(sent)
    for name in ODD_NAMES:
        assert client.read("odd", columns=[name]).equals(sent.select([name]))
    [path] = manifest_paths(client, "odd")
    assert read_with_duckdb(path).column_names == sent.column_names


@pytest.mark.parametrize("name", ["rowid", "select", 'a"b', "\n", "日本"], ids=ascii)
def test_the_timestamp_column_may_have_any_name(client: timestore.Client, name: str) -> None:
    """Also the column that everything is ordered, routed and cut by."""
    sent = pa.table({name: TS.take([1, 0])})

    client.append("odd", sent, create={"order": "sort", "timestamp_column": name})

    assert client.read("odd").column(name).to_pylist() == TS.to_pylist()


def test_a_schema_of_the_timestamp_alone(client: timestore.Client) -> None:
    """Rows that say nothing but when are rows."""
    sent = pa.table({"ts": TS})

    client.append("odd", sent)

    assert client.read("odd").equals(sent)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (pa.table({}), "no timestamp and no date"),
        (pa.table({"x": [1]}), "no timestamp and no date"),
        (pa.Table.from_arrays([TS, TS], ["ts", "ts"]), "named alike"),
        (pa.Table.from_arrays([TS, pa.nulls(2, pa.int8()), pa.nulls(2, pa.int8())], ["ts", "a", "a"]), "named alike"),
        (pa.table({"ts": TS, "a": [1, 2], "A": [1, 2]}), "differ only in case"),
        (pa.table({"ts": TS, "": [1, 2]}), "is empty or has a NUL character"),
    ],
    ids=["nothing", "no time", "time twice", "twice", "case", "no name"],
)
def test_schemas_that_no_dataset_can_have(client: timestore.Client, sent: pa.Table, says: str) -> None:
    """Refused before any data is sent, with what is wrong."""
    assert says in str(_refused(client, sent))


def _wide(columns: int) -> pa.Table:
    return pa.table({"ts": TS, **{f"c{number}": pa.array([number, None], pa.int64()) for number in range(columns)}})


def test_a_wide_table_is_stored_and_read(client: timestore.Client) -> None:
    """As many columns as are allowed go through, also with little memory for each reader."""
    sent = _wide(MAX_FIELDS - 1)

    client.append("odd", sent)

    assert client.read("odd").equals(sent)


def test_a_schema_has_so_many_fields_and_no_more(client: timestore.Client) -> None:
    """Too many columns are refused with count and limit, at once and when a dataset grows to them."""
    refusal = _refused(client, _wide(10_000))
    assert (refusal.details["fields"], refusal.details["limit"]) == ("10001", str(MAX_FIELDS))

    client.append("odd", _wide(3_000))
    more = _wide(3_000).rename_columns(["ts", *(f"d{number}" for number in range(3_000))])
    with pytest.raises(InvalidInputError) as caught:
        client.append("odd", more)

    assert (caught.value.kind, caught.value.details["fields"]) == ("schema_mismatch", "6001")
    assert client.describe("odd")["version"] == 1


def test_metadata_is_kept_and_bounded(client: timestore.Client) -> None:
    """Metadata of schema and fields may be any bytes and comes back; a schema that is too large is refused."""
    field = pa.field("ts", TS.type, metadata={b"\xff\x00": b"\x00\xfe", "": "", "k": "v" * 10_000})
    schema = pa.schema([field], metadata={b"\xff": b"\xfe\x00", "pandas": "{" * 10_000})
    sent = pa.Table.from_arrays([TS], schema=schema)
    client.append("odd", sent)
    assert client.read("odd").schema.equals(schema, check_metadata=True)

    large = sent.replace_schema_metadata({"k": "v" * MAX_SCHEMA_BYTES})
    with pytest.raises(InvalidInputError) as caught:
        client.append("large", large)

    assert caught.value.kind == "schema_mismatch"
    assert caught.value.details["limit"] == str(MAX_SCHEMA_BYTES)


def _misspelled(schema: pa.Schema, text: bytes = b"aaaa", instead: bytes = b"\xff\xfe\xfd\xfc") -> pa.Schema:
    """A schema whose flatbuffer has other bytes where a text was: nothing in Arrow checks them."""
    message = schema.serialize().to_pybytes()
    assert message.count(text) == 1
    return pa.ipc.read_schema(pa.py_buffer(message.replace(text, instead)))


NOT_UTF8 = {
    "name": pa.schema([("ts", TS.type), ("aaaa", pa.int8())]),
    "nested name": pa.schema([("ts", TS.type), ("s", pa.struct([("aaaa", pa.int8())]))]),
    "zone": pa.schema([("ts", pa.timestamp("us", "aaaa"))]),
    "nested zone": pa.schema([("ts", TS.type), ("l", pa.list_(pa.timestamp("us", "aaaa")))]),
    "dictionary": pa.schema([("ts", TS.type), ("d", pa.dictionary(pa.int8(), pa.timestamp("us", "aaaa")))]),
    "extension": pa.schema([("ts", TS.type), pa.field("e", pa.int8(), metadata={"ARROW:extension:name": "aaaa"})]),
}


@pytest.mark.parametrize("known", [False, True], ids=["new", "repeated"])
@pytest.mark.parametrize("where", NOT_UTF8)
def test_texts_that_are_not_utf8_are_refused(
    server_url: str, client: timestore.Client, where: str, known: bool
) -> None:
    """Names, zones and extension names that no text can spell are a mistake of the client, in a retry as well."""
    if known:
        client.append("odd", pa.table({"ts": TS}), idempotency_key="a")

    with pytest.raises(TimestoreError) as caught:
        RawPut(
            server_url, command(dataset="odd", idempotency_key="a", end="eof"), _misspelled(NOT_UTF8[where])
        ).finish()

    assert caught.value.kind in ("schema_mismatch", "batch_invalid")
    assert len(client.datasets()) == known


@pytest.mark.parametrize("zone", ["Nowhere/Land", "+99:99", "x" * 1_000, "日本"], ids=ascii)
def test_zones_that_no_calendar_knows(client: timestore.Client, zone: str) -> None:
    """Instants need no calendar: whatever a zone is called, rows are stored by UTC and come back with it."""
    sent = pa.table({"ts": TS.view(pa.timestamp("us", zone))})

    client.append("odd", sent)

    assert client.read("odd").equals(sent)


def _nested(depth: int) -> pa.DataType:
    type_: pa.DataType = pa.int8()
    for level in range(depth):
        type_ = pa.list_(type_) if level % 2 else pa.struct([("inner", type_)])
    return type_


def test_types_nested_too_deep(client: timestore.Client) -> None:
    """A type that is nested deeper than may be is refused, long before Arrow would fail to read its rows."""
    sent = pa.table({"ts": TS, "deep": pa.nulls(2, _nested(MAX_DEPTH + 1))})

    refusal = _refused(client, sent)

    assert (refusal.details["depth"], refusal.details["limit"]) == (str(MAX_DEPTH + 1), str(MAX_DEPTH))
