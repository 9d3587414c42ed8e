"""How errors travel: every kind, through the production wrapper, to Python's client and to ADBC's, which is in Go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import AdbcStatusCode
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from flight_server.answers import answering
from tests.fixtures.raw_put import typed
from timestore.errors import KINDS, GrpcCode, error

SCHEMA = pa.schema([("x", pa.int64())])
DETAILS = {"limit": 3, "näme": "wert ☃", "empty": ""}
# The longest and worst that a message can be made of: texts that are cut, and that a header spells with most bytes.
NASTY = {
    "emoji": "\U0001f600" * 5_000,
    "umlauts": "ä" * 5_000,
    "percent": "%00" * 5_000,
    "lines": "a\r\nx-injected: 1\n" * 500,
    "controls": "\x01\x1b[31m\x7f" * 1_000,
    "right to left": "\u202e\u200f\ufeff" * 1_000,
    "surrogates": "\ud800\udfff" * 1_000,
    "plain": "a" * 20_000,
}
STATUS_OF = {"descriptor_invalid": "INVALID_ARGUMENT", "overloaded": "RESOURCE_EXHAUSTED"}
# How ADBC's driver names the gRPC codes.
STATUS = {
    GrpcCode.CANCELLED: AdbcStatusCode.CANCELLED,
    GrpcCode.UNKNOWN: AdbcStatusCode.UNKNOWN,
    GrpcCode.DEADLINE_EXCEEDED: AdbcStatusCode.TIMEOUT,
    GrpcCode.PERMISSION_DENIED: AdbcStatusCode.UNAUTHORIZED,
    GrpcCode.INTERNAL: AdbcStatusCode.INTERNAL,
    GrpcCode.UNAVAILABLE: AdbcStatusCode.IO,
    GrpcCode.UNAUTHENTICATED: AdbcStatusCode.UNAUTHENTICATED,
}


class Refusing(flight.FlightServerBase):
    """Refuses every call through the production wrapper, with the error that the test sets."""

    failure: Exception = error("unsupported", "nothing is set")

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Refuse."""
        with answering("do_put"):
            raise self.failure

    def get_flight_info(self, context: Any, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        """Refuse, or send whoever asks for a path to ``do_get``, where it is refused."""
        with answering("get_flight_info"):
            if descriptor.path:
                return flight.FlightInfo(SCHEMA, descriptor, [flight.FlightEndpoint(b"x", [])], -1, -1)
            raise self.failure

    def do_get(self, context: Any, ticket: flight.Ticket) -> flight.FlightDataStream:
        """Refuse."""
        with answering("do_get"):
            raise self.failure

    def do_action(self, context: Any, action: flight.Action) -> Iterator[flight.Result]:
        """Refuse."""
        with answering("do_action"):
            raise self.failure
            yield


@pytest.fixture(name="refusing", scope="module")
def _refusing() -> Iterator[Refusing]:
    with Refusing("grpc://127.0.0.1:0") as server:
        yield server


@pytest.fixture(name="raw")
def _raw(refusing: Refusing) -> Iterator[flight.FlightClient]:
    with flight.FlightClient(f"grpc://127.0.0.1:{refusing.port}") as client:
        yield client


@pytest.fixture(name="cursor")
def _cursor(refusing: Refusing) -> Iterator[flight_sql.Cursor]:
    refusing.failure = error("unsupported", "no information about SQL")  # what the driver asks for first
    with (
        flight_sql.connect(f"grpc+tcp://127.0.0.1:{refusing.port}", autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor
        refusing.failure = error("unsupported", "no sessions")  # what the driver closes at last


def _partition(raw: flight.FlightClient) -> bytes:
    info: bytes = raw.get_flight_info(flight.FlightDescriptor.for_path("x")).serialize()
    return info


def _query(cursor: flight_sql.Cursor) -> None:
    cursor.adbc_statement.set_sql_query("SELECT 1")
    cursor.adbc_statement.execute_query()


def _read(cursor: flight_sql.Cursor, partition: bytes) -> None:
    cursor.adbc_read_partition(partition)
    cursor.fetch_arrow_table()


IN_PYTHON: dict[str, Callable[[flight.FlightClient], object]] = {
    "do_put": lambda raw: raw.do_put(flight.FlightDescriptor.for_path("x"), SCHEMA)[0].close(),
    "get_flight_info": lambda raw: raw.get_flight_info(flight.FlightDescriptor.for_command(b"x")),
    "do_get": lambda raw: raw.do_get(flight.Ticket(b"x")).read_all(),
    "do_action": lambda raw: list(raw.do_action("x")),
}
IN_GO: dict[str, Callable[[flight_sql.Cursor, bytes], object]] = {
    "do_put": lambda cursor, _: cursor.adbc_ingest("cpu", pa.table({"x": [1]}), mode="append"),
    "get_flight_info": lambda cursor, _: _query(cursor),
    "do_get": _read,
    "do_action": lambda cursor, _: cursor.execute("SELECT 1"),
}


@pytest.mark.parametrize("rpc", IN_PYTHON)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reaches_python(refusing: Refusing, raw: flight.FlightClient, kind: str, rpc: str) -> None:
    """Class, kind, message, details and retry delay arrive, in every RPC."""
    refusing.failure = error(kind, "what happened: ☃", details=DETAILS, retry_after_s=1.5)

    with pytest.raises(flight.FlightError) as caught:
        IN_PYTHON[rpc](raw)

    arrived = typed(caught.value)
    assert (type(arrived), arrived.kind) == (KINDS[kind].error, kind)
    if kind != "internal":
        assert arrived.message == "what happened: ☃"
        assert arrived.details == {"limit": "3", "näme": "wert ☃", "empty": "", "status": KINDS[kind].status}
        assert arrived.retry_after_s == 1.5


def _go_failure(
    refusing: Refusing, cursor: flight_sql.Cursor, rpc: str, failure: Exception, partition: bytes
) -> adbc_driver_manager.Error:
    refusing.failure = failure
    with pytest.raises(adbc_driver_manager.Error) as caught:
        IN_GO[rpc](cursor, partition)
    return caught.value


def _go_details(failure: adbc_driver_manager.Error) -> tuple[ErrorInfo, RetryInfo]:
    """What the driver hands on of the status: each detail as an ``Any``."""
    reason, retry = ErrorInfo(), RetryInfo()
    for name, value in cast("list[tuple[bytes, bytes]]", failure.details):  # not text, whatever its type says
        if name == b"grpc-status-details-bin":
            detail = AnyMessage.FromString(value)
            assert detail.Unpack(reason) or detail.Unpack(retry)
    return reason, retry


@pytest.mark.parametrize("rpc", IN_GO)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reaches_go(
    refusing: Refusing, raw: flight.FlightClient, cursor: flight_sql.Cursor, kind: str, rpc: str
) -> None:
    """Status code, kind, details and retry delay can be read from what ADBC raises."""
    failure = error(kind, "what happened: ☃", details=DETAILS, retry_after_s=1.5)

    caught = _go_failure(refusing, cursor, rpc, failure, _partition(raw))

    assert caught.status_code == STATUS[KINDS[kind].grpc]
    assert f"[{kind}] " in str(caught)
    reason, retry = _go_details(caught)
    assert (reason.domain, reason.reason, reason.metadata["status"]) == ("timestore", kind, KINDS[kind].status)
    if kind != "internal":
        assert reason.metadata["näme"] == "wert ☃"
        assert retry.retry_delay.ToMilliseconds() == 1500
    assert "Traceback" not in f"{caught} {caught.details!r}"


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("kind", STATUS_OF)
def test_the_worst_text_reaches_both(
    refusing: Refusing, raw: flight.FlightClient, cursor: flight_sql.Cursor, kind: str, text: str
) -> None:
    """However long a message and its details are, and whatever is in them, the error arrives with its first details.

    It travels in trailers, of which clients take 8 KiB and otherwise lose the whole error.
    """
    failure = error(kind, NASTY[text], details={f"d{n}": NASTY[text] for n in range(9)}, retry_after_s=1)
    refusing.failure = failure
    with pytest.raises(flight.FlightError) as caught:
        IN_PYTHON["do_put"](raw)
    arrived = typed(caught.value)
    assert (arrived.kind, arrived.message) == (kind, failure.message)
    assert arrived.details == {name: failure.details[name] for name in ("d0", "d1", "d2")} | {"status": STATUS_OF[kind]}

    reason, retry = _go_details(_go_failure(refusing, cursor, "do_put", failure, b""))
    assert (reason.reason, reason.metadata["d0"]) == (kind, failure.details["d0"])
    assert retry.retry_delay.seconds == 1


@pytest.mark.parametrize("rpc", IN_PYTHON)
@pytest.mark.parametrize("defect", [KeyError("secret words"), pa.ArrowInvalid("secret words"), RuntimeError("\ud800")])
def test_a_defect_tells_nothing(refusing: Refusing, raw: flight.FlightClient, rpc: str, defect: Exception) -> None:
    """What nobody foresaw arrives as ``internal`` with an error id, and with nothing of what it said."""
    refusing.failure = defect

    with pytest.raises(flight.FlightInternalError) as caught:
        IN_PYTHON[rpc](raw)

    arrived = typed(caught.value)
    assert arrived.kind == "internal"
    assert arrived.details["error_id"] in arrived.message
    told = f"{caught.value} {caught.value.extra_info!r}"
    assert not any(secret in told for secret in ("secret words", "Traceback", "KeyError", ".py"))
