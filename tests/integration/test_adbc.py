"""Appends as stock ADBC makes them, through its Flight SQL driver, which is written in Go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import DatabaseOptions

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.flight_sql import any_command, ingest_command
from tests.fixtures.raw_put import RawPut, typed
from tests.fixtures.server import StartService, wait_until

Mode = Literal["append", "create", "replace", "create_append"]

SENT = cpu_table(1_000)
HEADER = "adbc.flight.sql.rpc.call_header."


@pytest.fixture(name="adbc")
def _adbc(server_url: str) -> Iterator[flight_sql.Connection]:
    """A connection; opening it asks for CommandGetSqlInfo, closing it calls CloseSession."""
    with flight_sql.connect(server_url.replace("grpc://", "grpc+tcp://"), autocommit=True) as connection:
        yield connection


def _ingest(adbc: flight_sql.Connection, data: pa.Table = SENT, *, mode: Mode = "create_append", **headers: str) -> int:
    with adbc.cursor() as cursor:
        options = {f"{HEADER}x-{name.replace('_', '-')}": value for name, value in headers.items()}
        cursor.adbc_statement.set_options(**options)
        rows: int = cursor.adbc_ingest("cpu", data, mode=mode)
        return rows


def _refusal(adbc: flight_sql.Connection, *, mode: Mode = "create_append", **headers: str) -> str:
    with pytest.raises(adbc_driver_manager.Error) as caught:
        _ingest(adbc, mode=mode, **headers)
    return str(caught.value)


def test_ingest_returns_the_rows_and_stores_them(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """`adbc_ingest` stores every row, and returns how many there were."""
    assert _ingest(adbc) == 1_000
    assert _ingest(adbc, cpu_table(500, offset=1_000), mode="append") == 500
    assert client.read("cpu").equals(pa.concat_tables([SENT, cpu_table(500, offset=1_000)]).combine_chunks())


def test_create_wants_a_new_table(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """Mode create makes the dataset, and is refused where it exists; nothing is added then."""
    assert _ingest(adbc, mode="create") == 1_000
    assert "[dataset_exists]" in _refusal(adbc, mode="create")
    assert client.describe("cpu")["rows"] == 1_000


def test_append_wants_an_existing_table(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """Mode append is refused where there is no dataset; none is created."""
    assert "[dataset_not_found]" in _refusal(adbc, mode="append")
    assert client.datasets() == []


def test_replace_is_refused(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """Mode replace is refused as unsupported, and deletes nothing."""
    _ingest(adbc)
    assert "[unsupported] mode replace" in _refusal(adbc, mode="replace")
    assert client.describe("cpu")["rows"] == 1_000


def test_a_temporary_table_is_refused(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """There are no temporary tables; nothing is stored as if there were."""
    with adbc.cursor() as cursor, pytest.raises(adbc_driver_manager.Error, match=r"\[unsupported\].*temporary"):
        cursor.adbc_ingest("cpu", SENT, mode="create", temporary=True)
    assert client.datasets() == []


def test_the_catalog_and_schema_of_metadata_may_be_named(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """What metadata says a table is in may be said of an ingest too; another place is refused."""
    with adbc.cursor() as cursor:
        catalog, schema = adbc.adbc_current_catalog, adbc.adbc_current_db_schema
        assert cursor.adbc_ingest("cpu", SENT, mode="create", catalog_name=catalog, db_schema_name=schema) == 1_000
        with pytest.raises(adbc_driver_manager.Error, match=r"\[unsupported\].*another catalog"):
            cursor.adbc_ingest("cpu", SENT, mode="append", catalog_name="elsewhere")
    assert client.describe("cpu")["rows"] == 1_000


def test_an_idempotency_key_makes_it_exactly_once(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """The same ingest under the same key is stored once, whatever its mode; another one is a conflict."""
    modes: list[Mode] = ["create", "create", "append"]
    for mode in modes:
        assert _ingest(adbc, mode=mode, idempotency_key="a") == 1_000
    assert client.describe("cpu")["rows"] == 1_000
    assert client.append("cpu", SENT, idempotency_key="a").replayed
    with pytest.raises(adbc_driver_manager.Error, match="idempotency_conflict"):
        _ingest(adbc, cpu_table(10), idempotency_key="a")


def test_a_key_in_a_header(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """`x-timestore-key` gives the semantic key."""
    _ingest(adbc, timestore_key='{"region": "eu"}')
    [item] = client.manifest("cpu")
    assert item["key"] == {"region": "eu"}


def test_expected_rows_are_counted(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """`x-timestore-expected-rows` is compared with what arrived."""
    assert _ingest(adbc, timestore_expected_rows="1000") == 1_000
    assert "[row_count_mismatch]" in _refusal(adbc, timestore_expected_rows="999")
    assert client.describe("cpu")["rows"] == 1_000


def test_the_only_answer_is_the_row_count(server_url: str) -> None:
    """An ingest stream is answered by one frame, at its end: DoPutUpdateResult with 1000 rows."""
    descriptor = flight.FlightDescriptor.for_command(ingest_command("cpu", 1, 2))
    put = RawPut(server_url, descriptor, SENT.schema)
    put.send(SENT)
    put.writer.done_writing()
    frames = []
    while (frame := put.reader.read()) is not None:
        frames.append(frame.to_pybytes())
    put.writer.close()
    assert frames == [b"\x08\xe8\x07"]


def test_two_creates_at_once(start_service: StartService) -> None:
    """Of two that create the same dataset at once, one does, and the other is refused with nothing stored."""
    url = start_service().url
    descriptor = flight.FlightDescriptor.for_command(ingest_command("cpu", 1, 1))
    puts = [RawPut(url, descriptor, SENT.schema) for _ in range(2)]
    with timestore.connect(url) as client:
        for put in puts:
            put.send(SENT)  # both are taken before either commits: the stream has not ended
        wait_until(lambda: client.stats()["running_puts"] == 2)
        outcomes = [_finish(put) for put in puts]
        assert outcomes == [None, "dataset_exists"]
        assert client.describe("cpu")["rows"] == 1_000


def _finish(put: RawPut) -> str | None:
    try:
        put.writer.done_writing()
        put.reader.read()
        put.writer.close()
    except flight.FlightError as exc:
        return typed(exc).kind
    return None


UPDATE = any_command("CommandStatementUpdate", b"\x0a\x0eDROP TABLE cpu")
CALLED = any_command("CommandGetSomethingNew", b"")


RPCS: dict[str, Callable[[flight.FlightClient], object]] = {
    "get_flight_info": lambda raw: raw.get_flight_info(flight.FlightDescriptor.for_command(UPDATE)),
    "get_flight_info of what is new": lambda raw: raw.get_flight_info(flight.FlightDescriptor.for_command(CALLED)),
    "do_put": lambda raw: raw.do_put(flight.FlightDescriptor.for_command(UPDATE), SENT.schema)[0].close(),
    "do_get": lambda raw: raw.do_get(flight.Ticket(CALLED)).read_all(),
    "do_action": lambda raw: list(raw.do_action("BeginTransaction")),
}


@pytest.mark.parametrize("rpc", RPCS)
def test_what_databases_have_is_refused_as_unsupported(server_url: str, rpc: str) -> None:
    """Updates, transactions and commands of later days are refused by name, not as bad JSON."""
    with flight.FlightClient(server_url) as raw, pytest.raises(flight.FlightError) as caught:
        RPCS[rpc](raw)
    assert typed(caught.value).kind == "unsupported"


def test_get_schema_tells_the_kind_and_no_traceback(server_url: str) -> None:
    """Pyarrow translates no error of `get_schema`: kind and message arrive as text, nothing of our code does."""
    for command, kind in ((UPDATE, "unsupported"), (b"x", "descriptor_invalid"), (ABSENT, "dataset_not_found")):
        with flight.FlightClient(server_url) as raw, pytest.raises(pa.ArrowException) as caught:
            raw.get_schema(flight.FlightDescriptor.for_command(command))
        assert f"[{kind}]" in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert ".py" not in str(caught.value)


ABSENT = b'{"v": 1, "dataset": "absent"}'


@pytest.mark.parametrize("end", ["", "a"])
def test_a_cancelled_ingest_stores_nothing(client: timestore.Client, server_url: str, end: str) -> None:
    """Cancellation is all that tells a broken ingest from a complete one: nothing of it is stored."""
    headers = {"x-idempotency-key": end} if end else {}
    descriptor = flight.FlightDescriptor.for_command(ingest_command("cpu", 1, 2))
    put = RawPut(server_url, descriptor, SENT.schema, headers, timeout_s=1)
    put.send(SENT.slice(0, 500))
    put.answer()  # none comes, but the end of the call
    with pytest.raises(flight.FlightError):
        put.writer.close()
    wait_until(lambda: client.stats()["running_puts"] == 0)
    assert client.datasets() == []


def test_a_reader_that_fails_stores_nothing(client: timestore.Client, server_url: str) -> None:
    """When what the driver reads from fails half way, it never ends its stream; closing the connection cancels it."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from SENT.to_batches()
        raise KeyError("the caller's own")

    reader = pa.RecordBatchReader.from_batches(SENT.schema, batches())
    with flight_sql.connect(server_url.replace("grpc://", "grpc+tcp://"), autocommit=True) as adbc:
        with adbc.cursor() as cursor, pytest.raises(adbc_driver_manager.Error, match="the caller's own"):
            cursor.adbc_ingest("cpu", reader, mode="create_append")
        assert client.datasets() == []

    wait_until(lambda: client.stats()["running_puts"] == 0)
    assert client.datasets() == []


def test_batches_over_16_mib_need_an_option(client: timestore.Client, server_url: str) -> None:
    """The driver refuses a message over 16 MiB by itself, and nothing is stored; its option lifts that."""
    large = cpu_table(100).append_column("x", pa.array(["x" * 300_000] * 100))
    url = server_url.replace("grpc://", "grpc+tcp://")
    with (
        flight_sql.connect(url, autocommit=True) as adbc,
        pytest.raises(adbc_driver_manager.Error, match="message larger than max"),
    ):
        _ingest(adbc, large)
    assert client.datasets() == []
    option = {DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(64 << 20)}
    with flight_sql.connect(url, autocommit=True, db_kwargs=option) as adbc:
        assert _ingest(adbc, large) == 100
