"""Parameters of queries and of prepared statements, through the stock ADBC driver."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa

from tests.fixtures.sql_reading import (
    DAY,
    FIRST,
    ODD,
    sql_refusal,
    sql_rows,
)

VALUES: list[object] = [
    5,
    -1.5,
    True,
    "it's ? $1 ä",
    "before\0after",
    b"\x00\xff",
    None,
    Decimal("1.25"),
    dt.date(2026, 1, 2),
    dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC).replace(tzinfo=None),
    dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC),
    dt.time(1, 2, 3),
    [1, None, 2],
    {"a": "x'"},
]


def test_parameters_are_bound_exactly(adbc: flight_sql.Connection) -> None:
    """Every value that is bound comes back as it is, in its order, whatever is in a text."""
    query = "SELECT " + ", ".join(f"? AS c{number}" for number in range(len(VALUES)))
    [row] = sql_rows(adbc, query, VALUES).to_pylist()
    assert list(row.values()) == VALUES


def test_parameters_select_rows(adbc: flight_sql.Connection) -> None:
    """Parameters compare with columns of any type: instants in nanoseconds too, and texts that stand for numbers."""
    with adbc.cursor() as cursor:
        cursor.adbc_ingest("odd", ODD, mode="create")
    query = "SELECT value FROM odd WHERE ts >= ? AND ts < ? AND tag = ? AND value > ? LIMIT ?"
    assert sql_rows(adbc, query, (FIRST, FIRST + 3 * DAY, "a", "2", 5)).column("value").to_pylist() == [2.5]
    named = "SELECT count(*) AS n FROM odd WHERE value = $low OR value = $high OR value = $low"
    assert sql_rows(adbc, named, (2.5, 1.5)).to_pylist() == [{"n": 2}]
    with adbc.cursor() as cursor:
        types = cursor.adbc_prepare(f"{query} OFFSET ?")
    assert types is not None
    instant = pa.timestamp("ns")
    assert types.types == [instant, instant, pa.string(), pa.float64(), pa.int64(), pa.int64()]
    assert "2 parameters, and 1 are bound" in sql_refusal(adbc, "SELECT ?, ?", (1,))
    assert "1 parameters, and 0 are bound" in sql_refusal(adbc, "SELECT value FROM odd WHERE value = ?")


def test_a_statement_is_prepared_once_and_bound_often(adbc: flight_sql.Connection) -> None:
    """A prepared statement gives its rows for each row of parameters, one after the other."""
    with adbc.cursor() as cursor:
        statement = cursor.adbc_statement
        statement.set_sql_query("SELECT range FROM range(?)")
        statement.prepare()
        for bound in ([2, 1], [3]):
            statement.bind(pa.record_batch({"1": pa.array(bound, pa.int64())}))
            stream, _ = statement.execute_query()
            found = pa.RecordBatchReader.from_stream(stream).read_all()
            assert found.column("range").to_pylist() == [number for count in bound for number in range(count)]


def test_parameters_are_bounded(adbc: flight_sql.Connection) -> None:
    """Parameters travel in the handle, so they are few: more are refused with the limit."""
    assert "[query_too_expensive]" in sql_refusal(adbc, "SELECT ?", ("x" * 300_000,))
