"""Types and values: each comes back by SQL as it was sent."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa

import timestore
from tests.fixtures.sql_reading import (
    ODD,
    PLAIN,
    sql_rows,
)


def test_what_was_written_reads_back(adbc: flight_sql.Connection) -> None:
    """Every value and type comes back by SQL as it was ingested, with zones, units and metadata; encodings do not."""
    fields = [each.with_metadata({"unit": each.name}) for each in ODD.schema]
    sent = ODD.cast(pa.schema(fields))
    with adbc.cursor() as cursor:
        assert cursor.adbc_ingest("odd-types", sent, mode="create") == 3

    found = sql_rows(adbc, 'SELECT * FROM "odd-types"')

    assert found.combine_chunks().equals(PLAIN.combine_chunks())
    assert [each.metadata for each in found.schema] == [each.metadata for each in fields]
    assert adbc.adbc_get_table_schema("odd-types").equals(found.schema, check_metadata=True)
    assert sql_rows(adbc, 'SELECT * FROM "odd-types" LIMIT 0').schema.equals(found.schema, check_metadata=True)


STAMP = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
VALIDATED = {
    str(type_): pa.array([value, None], pa.string() if isinstance(value, str) else None).cast(type_)
    for type_, value in (
        [(type_, True) for type_ in (pa.bool_(),)]
        + [(type_, 5) for type_ in (pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64())]
        + [(type_, Decimal("1.20")) for type_ in (pa.decimal128(5, 2), pa.decimal128(3, 2), pa.decimal128(38, 2))]
        + [(type_, "text ä 世界 🚀") for type_ in (pa.string(), pa.large_string(), pa.string_view())]
        + [(type_, b"\x00\xff") for type_ in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2))]
        + [(pa.date32(), STAMP.date())]
        + [(type_, STAMP.time()) for type_ in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))]
        + [(pa.timestamp(unit), STAMP.replace(tzinfo=None)) for unit in ("s", "ms", "us", "ns")]
        + [(pa.timestamp(unit, "Asia/Tokyo"), STAMP) for unit in ("s", "ms", "us", "ns")]
    )
}


def test_every_type_of_the_validation_suite(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """Each type that ADBC's validation suite ingests is ingested, read back, described, and bound as a parameter."""
    stamps = {"event": pa.array([STAMP, STAMP], pa.timestamp("us", "UTC"))}
    sent = pa.table(stamps | VALIDATED)
    client.create_dataset("types", sent.schema, timestamp_column="event")
    seen = [
        pa.field(each.name, {"string_view": pa.string(), "binary_view": pa.binary()}.get(str(each.type), each.type))
        for each in sent.schema
    ]
    with adbc.cursor() as cursor:
        assert cursor.adbc_ingest("types", sent, mode="append") == 2
        found = sql_rows(adbc, "SELECT * FROM types")
        assert found.equals(sent.cast(pa.schema(seen)))
        assert cursor.adbc_execute_schema("SELECT * FROM types").equals(found.schema)
        cursor.adbc_statement.set_sql_query("SELECT " + ", ".join("?" for _ in VALIDATED))
        for encoded in (False, True):
            arrays = [array.dictionary_encode() if encoded else array for array in VALIDATED.values()]
            cursor.adbc_statement.prepare()  # first: the driver forgets what was bound before
            cursor.adbc_statement.bind(pa.record_batch(arrays, names=list(VALIDATED)))
            stream, _ = cursor.adbc_statement.execute_query()
            bound = pa.RecordBatchReader.from_stream(stream).read_all()
            for array, column in zip(VALIDATED.values(), bound.columns, strict=True):
                assert column.combine_chunks().cast(array.type).equals(array), array.type


def test_columns_keep_their_types_where_they_are_columns(adbc: flight_sql.Connection) -> None:
    """A column keeps its type through aliases, joins and subqueries; what is computed has the type of DuckDB."""
    with adbc.cursor() as cursor:
        cursor.adbc_ingest("odd", ODD, mode="create")
    query = (
        "WITH q AS (SELECT took AS t, took * 2 AS took FROM odd) "
        "SELECT q.t, q.took, b.ts AS moment, max(b.took) AS most FROM q JOIN odd b ON q.t = b.took GROUP BY ALL"
    )
    assert sql_rows(adbc, query).schema == pa.schema(
        [("t", pa.duration("ms")), ("took", pa.int64()), ("moment", ODD.schema.field("ts").type), ("most", pa.int64())]
    )
