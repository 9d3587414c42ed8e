"""Every kind of error is produced by a real server, and arrives at the Python client whole and without a secret.

``PRODUCERS`` has one function for each kind; a kind without one fails the first test here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import timestore
from catalog.connections import Connections
from tests.fixtures.data import START, cpu_table
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import ServerProcess, StartService, wait_until
from timestore.errors import KINDS, GrpcCode, TimestoreError

SENT = cpu_table(100)
NAMED = {"timestamp_column": "ts"}
# No server can be made to send these: nobody is authenticated yet, and a client that cancels hears only itself. They go
# through the production wrapper in test_error_travel.py, like all others.
ONLY_WRAPPED = {"unauthenticated", "permission_denied", "cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a producer may start, break, or look at."""

    start: StartService
    start_process: Callable[..., ServerProcess]
    connections: Connections
    proxy: PostgresProxy
    password: str
    tmp_path: Path

    def client(self, **settings: Any) -> timestore.Client:
        """A client of a new server, in whose DSN the password stands."""
        dsn = make_conninfo(self.proxy.dsn, password=self.password)
        return timestore.connect(self.start(catalog_dsn=dsn, **settings).url, retries=False)

    def sql(self, statement: str) -> None:
        """Change the catalog by hand."""
        with self.connections.connection() as connection:
            connection.execute(statement.encode())

    def fail_commits(self, sqlstate: str) -> None:
        """Let Postgres fail every commit with an error of this code."""
        self.sql(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'secret words' USING ERRCODE = '{sqlstate}'; END $$"
        )
        self.sql("CREATE TRIGGER fail BEFORE INSERT ON versions EXECUTE FUNCTION fail()")


@pytest.fixture(name="world")
def _world(
    start_service: StartService,
    server_process: Callable[..., ServerProcess],
    connections: Connections,
    proxy: PostgresProxy,
    postgres_dsn: str,
    tmp_path: Path,
) -> World:
    passfile = Path(str(conninfo_to_dict(postgres_dsn)["passfile"]))
    return World(
        password=passfile.read_text().strip().rpartition(":")[2],
        start=start_service,
        start_process=server_process,
        connections=connections,
        proxy=proxy,
        tmp_path=tmp_path,
    )


Producer = Callable[[World], object]
PRODUCERS: dict[str, Producer] = {}


def _produces(kind: str) -> Callable[[Producer], Producer]:
    def register(producer: Producer) -> Producer:
        PRODUCERS[kind] = producer
        return producer

    return register


def _put(world: World, *, data: pa.Table = SENT, marker: int | None = None, **fields: Any) -> object:
    put = RawPut(world.start().url, command(dataset="cpu", **fields), data.schema)
    put.send(data)
    if marker is not None:
        put.mark_end(marker)
    return put.finish()


def _append(world: World, data: pa.Table, **arguments: Any) -> object:
    return world.client().append("cpu", data, **arguments)


def _stamps(*microseconds: int | None, nullable: bool = True) -> pa.Table:
    column = pa.array(microseconds, pa.timestamp("us", "UTC"))
    return pa.table([column], pa.schema([pa.field("ts", column.type, nullable=nullable)]))


@_produces("descriptor_invalid")
def _(world: World) -> object:
    return _put(world, surprise=1)


@_produces("name_invalid")
def _(world: World) -> object:
    return world.client().append("..", SENT)


@_produces("end_missing")
def _(world: World) -> object:
    return _put(world, idempotency_key="a")


@_produces("row_count_mismatch")
def _(world: World) -> object:
    return _put(world, idempotency_key="a", marker=99)


@_produces("dataset_not_found")
def _(world: World) -> object:
    return world.client().read("cpu")


@_produces("storage_not_found")
def _(world: World) -> object:
    return _append(world, SENT, create={"storage": "nowhere"})


@_produces("storage_exists")
def _(world: World) -> object:
    return world.client().add_storage("default", "/nowhere")


@_produces("receipt_not_found")
def _(world: World) -> object:
    client = world.client()
    client.append("cpu", SENT)
    return client.receipt("cpu", "never")


@_produces("version_not_found")
def _(world: World) -> object:
    client = world.client()
    client.append("cpu", SENT)
    return client.read("cpu", version=2)


@_produces("version_expired")
def _(world: World) -> object:
    client = world.client()
    for offset in (0, 100):
        client.append("cpu", cpu_table(100, offset=offset))
    world.sql("UPDATE dataset_heads SET history_floor = 2")
    return client.read("cpu", version=1)


@_produces("action_unknown")
def _(world: World) -> object:
    return list(world.client()._action("reboot", {}))


@_produces("idempotency_conflict")
def _(world: World) -> object:
    client = world.client()
    client.append("cpu", SENT, idempotency_key="a")
    return client.append("cpu", cpu_table(10), idempotency_key="a")


@_produces("idempotency_abandoned")
def _(world: World) -> object:
    client = world.client()
    client.append("cpu", SENT)
    list(client._action("abandon", {"dataset": "cpu", "idempotency_key": "a"}))
    return client.append("cpu", SENT, idempotency_key="a")


@_produces("dataset_exists")
def _(world: World) -> object:
    client = world.client()
    client.append("cpu", SENT)
    return client.append("cpu", SENT, create={"window": "1h"})


@_produces("batch_too_large")
def _(world: World) -> object:
    return world.client(max_batch_bytes="1KiB").append("cpu", SENT)


@_produces("too_many_windows")
def _(world: World) -> object:
    return world.client(max_windows_per_put=2).append("cpu", cpu_table(3, step_s=86_400))


@_produces("schema_mismatch")
def _(world: World) -> object:
    return _append(world, SENT.select(["host"]))


@_produces("type_unsupported")
def _(world: World) -> object:
    return _append(world, SENT.append_column("x", pa.nulls(100, pa.float16())))


@_produces("batch_invalid")
def _(world: World) -> object:
    strict = pa.field("x", pa.int8(), nullable=False)
    return _append(world, SENT.append_column(strict, pa.nulls(100, pa.int8())))


@_produces("timestamp_null")
def _(world: World) -> object:
    return _append(world, _stamps(START, None))


@_produces("timestamp_unordered")
def _(world: World) -> object:
    return _append(world, _stamps(START + 1, START))


@_produces("timestamp_out_of_bounds")
def _(world: World) -> object:
    return _append(world, _stamps(START), create={"min": "2027-01-01T00:00:00Z"})


@_produces("value_not_storable")
def _(world: World) -> object:
    return _append(world, SENT.append_column("x", pa.array([2**62] * 100, pa.timestamp("s"))), create=NAMED)


@_produces("query_invalid")
def _(world: World) -> object:
    return world.client().sql("SELECT * FROM read_csv('/etc/passwd')")


@_produces("query_too_expensive")
def _(world: World) -> object:
    return world.client().sql("SELECT 1 UNION ALL SELECT 2", max_rows=1)


@_produces("overloaded")
def _(world: World) -> object:
    url = world.start(max_running_puts=1).url
    running = RawPut(url, command(dataset="cpu"), SENT.schema)
    assert running.answer() is not None
    try:
        return timestore.connect(url, retries=False).append("cpu", SENT)
    finally:
        running.finish()


@_produces("too_many_rows")
def _(world: World) -> object:
    return _append(world, SENT, create={"max_rows_per_put": 99})


@_produces("dataset_full")
def _(world: World) -> object:
    return _append(world, SENT, create={"max_bytes": 1})


@_produces("deadline_exceeded")
def _(world: World) -> object:
    url = world.start(put_idle_timeout_s=0.2).url
    silent = RawPut(url, command(dataset="cpu"), SENT.schema)
    assert silent.answer() is not None
    with timestore.connect(url, retries=False) as client:
        wait_until(lambda: client.stats()["running_puts"] == 0)
    return silent.finish()


@_produces("internal")
def _(world: World) -> object:
    client = world.client()
    world.fail_commits("XX000")
    return client.append("cpu", SENT)


@_produces("unsupported")
def _(world: World) -> object:
    return world.client().append("cpu", SENT, landing="arrow")


@_produces("shutting_down")
def _(world: World) -> object:
    server = world.start_process()
    url = server.url
    running = RawPut(url, command(dataset="cpu"), SENT.schema)
    assert running.answer() is not None
    assert server.process is not None
    server.process.terminate()
    with timestore.connect(url, retries=False) as client:
        wait_until(lambda: client.health()["status"] != "ok")
        try:
            return client.append("cpu", SENT)
        finally:
            running.finish()


@_produces("catalog_unavailable")
def _(world: World) -> object:
    client = world.client()
    world.proxy.cut_once(b"INSERT INTO intents", answer=False)
    return client.append("cpu", SENT)


@_produces("storage_unavailable")
def _(world: World) -> object:
    client = world.client()
    (world.tmp_path / "data" / "cpu").write_text("a file where the dataset's directory should be")
    return client.append("cpu", SENT)


@_produces("disk_full")
def _(world: World) -> object:
    client = world.client()
    world.fail_commits("53100")
    return client.append("cpu", SENT)


@_produces("fenced")
def _(world: World) -> object:
    world.start()
    return world.client(storage_url=str(world.tmp_path / "elsewhere")).append("cpu", SENT)


@_produces("unreachable")
def _(world: World) -> object:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return timestore.connect(f"grpc://127.0.0.1:{port}", retries=False).append("cpu", SENT)


def test_every_kind_has_a_producer() -> None:
    """No kind can be added without a test that produces it."""
    assert set(PRODUCERS) == set(KINDS) - ONLY_WRAPPED


@pytest.mark.parametrize("kind", PRODUCERS)
def test_a_kind_arrives_whole(kind: str, world: World) -> None:
    """A real server sends this kind, as its class, with message and details, and with no secret anywhere in it."""
    with pytest.raises(TimestoreError) as caught:
        PRODUCERS[kind](world)

    failure, spec = caught.value, KINDS[kind]
    assert (failure.kind, type(failure)) == (kind, spec.error)
    assert len(failure.message) > 20
    cause = failure.__cause__
    told = f"{failure} {failure.details}"
    if kind == "unreachable":  # the client's own
        assert isinstance(cause, flight.FlightUnavailableError)
    else:
        assert isinstance(cause, flight.FlightError)
        _check_status(cause.extra_info, kind)
        told += f"{cause} {cause.extra_info!r}"
        assert failure.details["status"] == spec.status
    if kind in ("overloaded", "shutting_down", "catalog_unavailable"):
        assert failure.retry_after_s
    _check_no_secret(told, world, storage_url=kind == "fenced")


def _check_status(extra_info: bytes, kind: str) -> None:
    """What clients of other languages read: a status of the call's code, with the kind as its reason."""
    status = Status.FromString(extra_info)
    assert status.code == KINDS[kind].grpc
    assert status.message.startswith(f"[{kind}] ")
    reason = ErrorInfo()
    assert status.details[0].Unpack(reason)
    assert (reason.domain, reason.reason) == ("timestore", kind)
    assert reason.metadata["status"] == KINDS[kind].status
    if len(status.details) > 1:
        assert status.details[1].Unpack(RetryInfo())


def _check_no_secret(told: str, world: World, *, storage_url: bool) -> None:
    """No traceback, no password, no words of a driver, no path of the server's beyond its storage URL."""
    for secret in ("Traceback", 'File "', ".py", "secret words", world.password, "/staging", "/server0"):
        assert secret not in told
    if not storage_url:
        assert str(world.tmp_path) not in told


def test_an_internal_error_is_found_in_the_log(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """What the client does not hear, the log has under the same error id."""
    with pytest.raises(TimestoreError) as caught:
        PRODUCERS["internal"](world)

    error_id = caught.value.details["error_id"]
    assert error_id in caught.value.message
    logged = capsys.readouterr().out
    assert error_id in logged
    assert "secret words" in logged


def test_codes_fit_their_errors() -> None:
    """A gRPC code that clients retry on their own is only given to what may be repeated."""
    for kind, spec in KINDS.items():
        if spec.grpc in (GrpcCode.UNAVAILABLE, GrpcCode.DEADLINE_EXCEEDED):
            assert spec.repeatable, kind
