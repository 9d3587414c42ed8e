"""Statements and prepared statements by Flight SQL, as tools send them, mostly through the stock ADBC driver."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import timestore
from tests.fixtures.data import START
from tests.fixtures.raw_put import typed
from tests.fixtures.server import StartService
from tests.fixtures.sql_reading import (
    DAY,
    FIRST,
    SENT,
    sql_info,
    sql_query,
    sql_read,
    sql_refusal,
    sql_rows,
)
from timestore.flight_sql import Statement, encode
from timestore.flight_sql.statements import Described, PinnedDataset
from timestore_app.reading_side import SQL_QUERIES


@pytest.mark.capability("ADBC", "reads")
@pytest.mark.capability("ADBC", "SQL")
def test_a_dataset_is_read_back(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """A dataset is read back equal by a query."""
    client.append("cpu", SENT)
    assert sql_rows(adbc, "SELECT * FROM cpu ORDER BY ts").equals(SENT)


def test_a_ticket_reads_the_versions_it_was_planned_at(
    start_service: StartService, client: timestore.Client, raw: flight.FlightClient
) -> None:
    """What `get_flight_info` planned is what `do_get` reads, on any server, whatever was put meanwhile."""
    client.append("cpu", SENT)
    info = sql_info(raw, sql_query("SELECT count(*) AS n FROM CPU"))
    client.append("cpu", SENT)
    for url in (start_service().url, start_service().url):
        with flight.FlightClient(url) as other:
            assert other.do_get(info.endpoints[0].ticket).read_all().to_pylist() == [{"n": 1_000}]
    assert sql_read(raw, sql_query("SELECT count(*) AS n FROM cpu")).to_pylist() == [{"n": 2_000}]

    client.drop_dataset("cpu", confirm="cpu")
    client.append("cpu", SENT)
    with pytest.raises(flight.FlightError) as caught:
        raw.do_get(info.endpoints[0].ticket).read_all()
    assert typed(caught.value).kind == "version_expired"


def test_a_prepared_statement_sees_what_is_there_when_it_runs(
    client: timestore.Client, adbc: flight_sql.Connection
) -> None:
    """Rows and columns that came after a statement was prepared are in its result."""
    client.append("cpu", SENT)
    with adbc.cursor() as cursor:
        cursor.adbc_prepare("SELECT * FROM cpu")
        cursor.execute("SELECT * FROM cpu")
        assert cursor.fetch_arrow_table().num_rows == 1_000
        client.append("cpu", SENT)
        cursor.execute("SELECT * FROM cpu")
        assert cursor.fetch_arrow_table().num_rows == 2_000
        client.append("cpu", SENT.append_column("more", pa.array(range(1_000))))
        cursor.execute("SELECT * FROM cpu")
        assert cursor.fetch_arrow_table().column_names == [*SENT.column_names, "more"]


def test_headers_choose_the_version(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """A call's headers say at which version, or as of when, and for how long at most, a query reads."""
    client.append("cpu", SENT)
    before = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
    client.append("cpu", SENT)
    query = "SELECT count(*) AS n FROM cpu"
    assert sql_rows(adbc, query, version="1", timeout_s="600").to_pylist() == [{"n": 1_000}]
    assert sql_rows(adbc, query, as_of=before).to_pylist() == [{"n": 1_000}]
    assert sql_rows(adbc, query).to_pylist() == [{"n": 2_000}]
    assert "[version_not_found]" in sql_refusal(adbc, query, version="9")
    for wrong in ({"version": "x"}, {"version": "1", "as_of": before}, {"as_of": "x"}, {"timeout_s": "601"}):
        assert "[descriptor_invalid]" in sql_refusal(adbc, query, **wrong)


@pytest.mark.parametrize(
    "query",
    ["INSERT INTO cpu VALUES (1)", "DROP TABLE cpu", "CREATE TABLE x (i INT)", "SELECT 1; SELECT 2", "SELEC", ";"],
)
def test_what_is_not_one_query_is_refused(adbc: flight_sql.Connection, query: str) -> None:
    """Statements that change anything are refused, saying what there is instead; nothing is ambiguous."""
    assert "[query_invalid]" in sql_refusal(adbc, query)


def test_updates_are_refused(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """An update is refused, prepared or not, and names what to use."""
    client.append("cpu", SENT)
    with adbc.cursor() as cursor, pytest.raises(adbc_driver_manager.Error, match=r"\[unsupported\].*adbc_ingest"):
        cursor.executemany("SELECT ?", [(1,)])
    with adbc.cursor() as cursor:
        cursor.adbc_statement.set_sql_query("DELETE FROM cpu")
        with pytest.raises(adbc_driver_manager.Error, match=r"\[unsupported\].*adbc_ingest"):
            cursor.adbc_statement.execute_update()
    assert client.describe("cpu")["rows"] == 1_000


def test_transactions_are_not_there(server_url: str) -> None:
    """Transactions are not advertised, so the driver says that it has none, and nothing is begun."""
    url = server_url.replace("grpc://", "grpc+tcp://")
    with pytest.warns(UserWarning, match="Cannot disable autocommit"), flight_sql.connect(url) as adbc:
        assert sql_rows(adbc, "SELECT 1 AS x").to_pylist() == [{"x": 1}]


PINNED = {"absent": PinnedDataset(incarnation=UUID(int=1), version=1)}


def _described(schema: bytes) -> Described:
    return Described(schema=schema, shapes={})


HOSTILE = [
    b"",
    b"{}",
    Statement(query="SELECT 1", parameters=b"\xff").to_bytes(),
    Statement(query="SELECT * FROM absent", pinned=PINNED).to_bytes(),
    Statement(query="SELECT ?", parameters=pa.schema([]).serialize().to_pybytes()).to_bytes(),
    Statement(query="DROP TABLE x", described=_described(b"")).to_bytes(),
    Statement(query="DROP TABLE x", described=_described(pa.schema([]).serialize().to_pybytes())).to_bytes(),
    Statement(query="SELECT * FROM range(9999999999)", timeout_s=0.5).to_bytes(),
]


@pytest.mark.parametrize("handle", HOSTILE, ids=range(len(HOSTILE)))
def test_handles_of_ones_own_making_do_nothing(raw: flight.FlightClient, handle: bytes) -> None:
    """A handle or ticket that no server gave out is refused as the caller's mistake, or says what it says openly."""
    prepared = encode("CommandPreparedStatementQuery", wrapped=True, prepared_statement_handle=handle)
    ticket = encode("TicketStatementQuery", wrapped=True, statement_handle=handle)
    for call in (lambda: sql_read(raw, prepared), lambda: raw.do_get(flight.Ticket(ticket)).read_all()):
        with pytest.raises(flight.FlightError) as caught:
            call()
        assert typed(caught.value).kind not in ("internal", "unreachable")


def test_large_results_come_in_messages_that_drivers_take(adbc: flight_sql.Connection) -> None:
    """A result of 60 MB is read by a driver that refuses messages over 16 MiB."""
    found = sql_rows(adbc, "SELECT repeat('x', 600_000) AS x FROM range(100)")
    assert (found.num_rows, found.nbytes > 60_000_000) == (100, True)


def test_stalled_clients_give_way(raw: flight.FlightClient, adbc: flight_sql.Connection) -> None:
    """Clients that take nothing keep no query from running beyond their deadlines, and hear of it when they go on."""
    endless = Statement(query="SELECT repeat('x', 100) FROM range(1_000_000_000)", pinned={}, timeout_s=5.0)
    ticket = encode("TicketStatementQuery", wrapped=True, statement_handle=endless.to_bytes())
    stalled = [raw.do_get(flight.Ticket(ticket)) for _ in range(SQL_QUERIES)]
    for reader in stalled:
        reader.read_chunk()

    assert sql_rows(adbc, "SELECT 1 AS x").to_pylist() == [{"x": 1}]
    for reader in stalled:
        with pytest.raises(flight.FlightError) as caught:
            reader.read_all()
        assert typed(caught.value).kind == "query_too_expensive"


def test_results_are_streamed(raw: flight.FlightClient, adbc: flight_sql.Connection) -> None:
    """The first rows of a result that never ends arrive, while the rest of it is nowhere."""
    endless = Statement(query="SELECT repeat('x', 100) FROM range(1_000_000_000)", pinned={}, timeout_s=60.0)
    ticket = encode("TicketStatementQuery", wrapped=True, statement_handle=endless.to_bytes())
    reader = raw.do_get(flight.Ticket(ticket))
    assert sum(reader.read_chunk().data.num_rows for _ in range(20)) > 0
    reader.cancel()
    assert sql_rows(adbc, "SELECT 1 AS x").to_pylist() == [{"x": 1}]


def test_get_schema_of_queries(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """The schema of a query is told without running it."""
    client.append("cpu", SENT)
    with adbc.cursor() as cursor:
        assert cursor.adbc_execute_schema("SELECT ts, errors FROM cpu") == pa.schema(
            [SENT.schema.field("ts"), SENT.schema.field("errors")]
        )


def test_pandas(adbc: flight_sql.Connection) -> None:
    """Pandas writes a frame and reads it back, as a query and as a table; it may append, and not replace."""
    frame = pd.DataFrame({"time": pd.date_range("2026-01-01", periods=3, tz="UTC", unit="us"), "x": [1.5, None, 3.0]})
    assert frame.to_sql("meters", adbc, index=False, if_exists="fail") == 3
    pd.testing.assert_frame_equal(pd.read_sql("SELECT * FROM meters ORDER BY time", adbc), frame)
    pd.testing.assert_frame_equal(pd.read_sql_table("meters", adbc), frame)
    with pytest.raises(ValueError, match="already exists"):
        frame.to_sql("meters", adbc, index=False, if_exists="fail")
    assert frame.to_sql("meters", adbc, index=False, if_exists="append") == 3
    with pytest.raises(pd.errors.DatabaseError, match="query_invalid") as caught:
        frame.to_sql("meters", adbc, index=False, if_exists="replace")
    for cursor in list(adbc._cursors):  # pandas leaves it open, in a frame of the traceback that is caught
        cursor.close()
    del caught
    assert pd.read_sql("SELECT count(*) AS n FROM meters WHERE x > 2", adbc).n[0] == 2


def test_polars(adbc: flight_sql.Connection) -> None:
    """Polars writes a frame and reads it back."""
    times = [FIRST + number * DAY for number in range(3)]
    frame = pl.DataFrame({"time": times, "x": [1, None, 3], "tags": [["a"], [], None]})
    assert frame.write_database("meters", connection=adbc, engine="adbc", if_table_exists="append") == 3
    read = pl.read_database("SELECT * FROM meters WHERE time >= ?", adbc, execute_options={"parameters": [FIRST]})
    assert read.equals(frame)


def test_deep_expressions_and_qualified_names(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """A deep expression is planned, and a name may be qualified as metadata says, in any case."""
    client.append("cpu", SENT)
    terms = " + ".join(["errors"] * 600)
    query = f'SELECT {terms} = 600 * errors AS alike FROM "timestore"."main"."CPU" WHERE ts = make_timestamptz(?)'
    assert sql_rows(adbc, query, (START,)).to_pylist() == [{"alike": True}]
