"""Whatever a client sends to a real server, it hears an error that blames the caller, and the server lives on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.flight_sql import any_command, field, table_options
from tests.fixtures.raw_put import typed
from tests.fuzz.seeds import EDGE_INSTANTS, INCARNATION, SCHEMA
from timestore.errors import InvalidInputError

SENT = cpu_table(10)
# Each is a call or two, so fewer than of what is pure. (The server is the same for all examples of a test.)
EXAMPLES = settings(
    max_examples=settings().max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Values for any field: those of its type at their edges, and some of other types.
INTEGERS = st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, 2**63, 10**400, 1.5, 1e308])
TEXTS = st.sampled_from(
    [
        "",
        "cpu",
        "CPU",
        "..",
        "/",
        "%2e",
        "a\x00b",
        "\n",
        "x" * 300,
        "ä",
        "\u202e",
        "\U0001f600",
        "null",
        "0",
        "-1",
        "1e9",
        "9" * 30,
        "1" * 5000,
        " 1",
        "1_0",
        "\u0661",
        INCARNATION,
        INCARNATION.upper(),
        f"{{{INCARNATION}}}",
        SCHEMA,
        *EDGE_INSTANTS,
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS | st.text(max_size=5),
    lambda child: st.lists(child, max_size=5) | st.dictionaries(TEXTS, child, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "key",
    "columns",
    "from",
    "to",
    "version",
    "as_of",
    "with_key",
    "cursor",
    "schema",
    "timestamp_column",
    "window",
    "order",
    "evolution",
    "min",
    "max",
    "future_tolerance_s",
    "idempotency_key",
    "end",
    "expected_rows",
    "fingerprint",
    "landing",
    "create",
    "first",
    "last",
    "incarnation",
    "format",
    "limit",
    "max_rows_per_put",
    "max_bytes",
    "retention",
    "v",
]
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3)
CURSORS = st.lists(TEXTS, min_size=1, max_size=4)
ACTIONS = ["health", "list_datasets", "create_dataset", "describe_dataset", "manifest", "receipt", "history", "stats"]
ACTIONS += ["abandon", "expire", "set_retention"]  # drop_dataset would leave nothing to ask for
HEADER_TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20) | st.sampled_from(
    [
        "a",
        "3",
        "eof",
        "marker",
        '{"region": "eu"}',
        '{"region": "\\ud800"}',
        "1" * 1_500,
        "{" * 1_500,
    ]  # gRPC itself takes 8 KiB
)


def _sent(fields: dict[str, Any], *, dataset: str | None = "cpu") -> bytes:
    named = {"dataset": dataset} if dataset is not None else {}
    return json.dumps({"v": 1} | named | fields).encode()


@pytest.fixture(name="raw")
def _raw(client: timestore.Client, server_url: str) -> flight.FlightClient:
    client.append("cpu", SENT)
    return flight.FlightClient(server_url)


def _answered_or_refused(raw: flight.FlightClient, call: Callable[[], object]) -> None:
    """Make a call; whatever comes of it blames the caller, and the next one is answered."""
    refusal = None
    try:
        call()
    except flight.FlightError as exc:
        refusal = typed(exc)
    assert refusal is None or isinstance(refusal, InvalidInputError | timestore.errors.ConflictError), refusal
    [health] = raw.do_action(flight.Action("health", b""))
    assert json.loads(health.body.to_pybytes())["status"] == "ok"


@EXAMPLES
@given(body=BODIES, dataset=st.sampled_from(["cpu", "absent", "..", None]))
def test_reads(raw: flight.FlightClient, body: dict[str, Any], dataset: str | None) -> None:
    """A read is planned, or refused."""
    descriptor = flight.FlightDescriptor.for_command(_sent(body, dataset=dataset))
    _answered_or_refused(raw, lambda: raw.get_flight_info(descriptor))


@EXAMPLES
@given(body=BODIES, version=INTEGERS | st.just(1), same=st.booleans(), position=st.none() | CURSORS)
def test_tickets(
    raw: flight.FlightClient, body: dict[str, Any], version: float, same: bool, position: list[str] | None
) -> None:
    """A ticket gives rows, or is refused, whatever was changed in it."""
    info = raw.get_flight_info(flight.FlightDescriptor.for_path("cpu"))
    good = json.loads(info.endpoints[0].ticket.ticket)
    changed = good | body | {"version": version}
    if same:
        changed["incarnation"] = good["incarnation"]
    if position is not None:
        changed["first"] = position
    ticket = flight.Ticket(json.dumps(changed).encode())
    _answered_or_refused(raw, lambda: raw.do_get(ticket).read_all())


@EXAMPLES
@given(name=st.sampled_from([*ACTIONS, "reboot", "CloseSession", "\u202e"]), body=BODIES, cursor=st.none() | CURSORS)
def test_actions(raw: flight.FlightClient, name: str, body: dict[str, Any], cursor: list[str] | None) -> None:
    """An action answers, or is refused."""
    dataset = None if name in ("health", "stats", "list_datasets") else "cpu"
    page = {"cursor": cursor} if cursor is not None else {}
    _answered_or_refused(raw, lambda: list(raw.do_action(flight.Action(name, _sent(body | page, dataset=dataset)))))


@EXAMPLES
@given(
    schema=st.binary(max_size=60)
    | st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=4)).map(
        lambda change: _overwritten(base64.b64decode(SCHEMA), *change)
    ),
    body=BODIES,
)
def test_schemas_of_create_dataset(raw: flight.FlightClient, schema: bytes, body: dict[str, Any]) -> None:
    """The bytes of a schema are read, or refused, and crash nothing."""
    fields = {"schema": base64.b64encode(schema).decode()} | body
    sent = _sent(fields, dataset="made")
    _answered_or_refused(raw, lambda: list(raw.do_action(flight.Action("create_dataset", sent))))


def _overwritten(data: bytes, at: int, change: bytes) -> bytes:
    at = min(at, len(data))
    return data[:at] + change + data[at + len(change) :]


@EXAMPLES
@given(
    body=BODIES,
    path=st.none() | st.lists(TEXTS | st.just("region=eu"), max_size=3),
    headers=st.dictionaries(
        st.sampled_from(["x-idempotency-key", "x-timestore-key", "x-timestore-expected-rows", "x-timestore-end"]),
        HEADER_TEXTS,
        max_size=2,
    ),
    marker=st.none() | st.binary(max_size=20) | BODIES.map(lambda fields: json.dumps(fields).encode()),
)
def test_puts(
    raw: flight.FlightClient, body: dict[str, Any], path: list[str] | None, headers: dict[str, str], marker: bytes
) -> None:
    """A put gets its receipt, or is refused."""
    descriptor = (
        flight.FlightDescriptor.for_path(*path)
        if path is not None
        else flight.FlightDescriptor.for_command(_sent(body))
    )
    _answered_or_refused(raw, lambda: _put(raw, descriptor, headers, marker))


@EXAMPLES
@given(
    name=st.sampled_from(["CommandStatementIngest", "CommandStatementUpdate", "\u202e"]),
    options=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    table=TEXTS | st.just("cpu"),
    rest=st.binary(max_size=12),
)
def test_flight_sql(raw: flight.FlightClient, name: str, options: tuple[int, int], table: str, rest: bytes) -> None:
    """A command of Flight SQL is taken, or refused."""
    value = table_options(*options) + field(2, table.encode()) + rest
    descriptor = flight.FlightDescriptor.for_command(any_command(name, value))
    _answered_or_refused(raw, lambda: _put(raw, descriptor, {}, None))


def _put(
    raw: flight.FlightClient, descriptor: flight.FlightDescriptor, headers: dict[str, str], marker: bytes | None
) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    writer, answers = raw.do_put(descriptor, SENT.schema, flight.FlightCallOptions(headers=encoded, timeout=20))
    try:
        writer.write_table(SENT)
        if marker is not None:
            writer.write_metadata(marker)
        writer.done_writing()
        while answers.read() is not None:
            pass
    except pa.ArrowException:
        pass  # the server ended the stream; closing it says why
    writer.close()
