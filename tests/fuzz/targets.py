"""What fuzzers throw bytes at: every parser of what clients send, and of the errors that servers answer.

A target takes bytes. It returns, or raises a ``TimestoreError`` that blames the caller; anything else is a finding.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from google.protobuf.any_pb2 import Any as AnyMessage

from access.authenticator import bearer_header
from access.grants import Grants
from access.jwks import KeySet
from access.jwt_rules import JwtRules
from access.jwt_verifier import JwtTokens
from access.principal import Limits
from access.token_text import TokenText
from catalog.manifests import SliceCursor
from flight_server.actions import decode_schema
from flight_server.put_stream import parse_end_marker
from http_gateway.influx.parser import LineParser
from tests.fixtures.influx_lines import Point, points_of
from timestore.datasets import CreateOptions
from timestore.descriptor import (
    END_HEADER,
    EXPECTED_ROWS_HEADER,
    IDEMPOTENCY_HEADER,
    KEY_HEADER,
    parse_put_command,
    parse_put_path,
)
from timestore.errors import TimestoreError
from timestore.flight_sql import (
    INGEST,
    TYPE_PREFIX,
    Statement,
    command_name,
    parse_command,
    parse_ingest,
    refuse_command,
)
from timestore.json_object import JsonObject
from timestore.names import parse_dataset_name, parse_idempotency_key
from timestore.reading import AsOf, ReadDescriptor, Selection, Ticket
from timestore.wire_errors import decode_status, encode_status

Target = Callable[[bytes], object]

SEPARATOR = b"\xff\x00"  # between the parts of an input, in neither UTF-8 nor a header
REFUSALS = {
    "batch_invalid",
    "batch_too_large",
    "descriptor_invalid",
    "name_invalid",
    "unauthenticated",
    "unsupported",
}
MAX_STATUS_BYTES = 3_000  # what surely travels: see timestore.errors
JWKS = (
    b'{"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256", '
    b'"x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY", "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}]}'
)
# Of an issuer that nobody can sign for: no input is accepted.
WEB_TOKENS = JwtTokens(
    keys=KeySet("", read=lambda _: JWKS),
    rules=JwtRules(issuer="issuer", audience="timestore"),
    assigned={},
    default_limits=Limits(),
)
_HEADERS = (IDEMPOTENCY_HEADER, EXPECTED_ROWS_HEADER, END_HEADER, KEY_HEADER)


def run(name: str, data: bytes) -> None:
    """Run one target; raises if what happens is a finding."""
    refusal: TimestoreError | None = None
    try:
        TARGETS[name](data)
    except TimestoreError as failure:
        refusal = failure
    if refusal is not None:
        assert refusal.kind in REFUSALS, refusal
        assert len(encode_status(refusal)) <= MAX_STATUS_BYTES, refusal


def put_command(data: bytes) -> None:
    """JSON in CMD with headers; what is taken can be written and taken again."""
    body, headers = _with_headers(data)
    put = parse_put_command(body, headers)
    assert parse_put_command(put.to_command(), {}) == put


def put_path(data: bytes) -> None:
    """PATH with headers, for puts and for reads."""
    body, headers = _with_headers(data)
    path = body.split(b"/")
    put = parse_put_path(path, headers)
    assert parse_put_command(put.to_command(), {}) == put
    assert ReadDescriptor.parse_path(path).dataset == put.dataset


def flight_sql(data: bytes) -> None:
    """``Any`` in CMD, with headers."""
    body, headers = _with_headers(data)
    if parse_ingest(body, headers) is None:
        refuse_command(body)
        assert command_name(body) is None


def flight_sql_ingest(data: bytes) -> None:
    """What is in the ``Any`` of an ingest, with headers."""
    body, headers = _with_headers(data)
    command = AnyMessage(type_url=TYPE_PREFIX + INGEST, value=body).SerializeToString()
    assert parse_ingest(command, headers) is not None


def statement(data: bytes) -> None:
    """The handle of a prepared statement, and what is in the ticket of a query."""
    parsed = Statement.parse(data)
    assert Statement.parse(parsed.to_bytes()) == parsed


def flight_sql_message(data: bytes) -> None:
    """A message of Flight SQL's metadata and statements: the first byte says which, the rest is what is in it."""
    names = ("CommandGetTables", "CommandStatementQuery", "TicketStatementQuery", "CommandGetSqlInfo")
    name = names[data[0] % len(names)] if data else names[0]
    assert parse_command(AnyMessage(type_url=TYPE_PREFIX + name, value=data[1:]).SerializeToString()) is not None


def read_command(data: bytes) -> None:
    """The descriptor of a read."""
    read = ReadDescriptor.parse_command(data)
    assert ReadDescriptor.parse_command(read.to_command()) == read


def ticket(data: bytes) -> None:
    """A ticket."""
    parsed = Ticket.parse(data)
    assert Ticket.parse(parsed.to_bytes()) == parsed


def action_body(data: bytes) -> None:
    """All the fields that the bodies of actions have."""
    fields = JsonObject.parse(data, what="body")
    fields.version()
    parse_dataset_name(fields.text("dataset") or "a")
    parse_idempotency_key(fields.text("idempotency_key") or "a")
    CreateOptions.from_json(fields)
    Selection.from_json(fields)
    AsOf.from_json(fields)
    if (schema := fields.text("schema")) is not None:
        decode_schema(schema)
    if (cursor := fields.texts("cursor")) is not None:
        SliceCursor.from_texts((cursor * 4)[:4])
    fields.finish()


def end_marker(data: bytes) -> None:
    """A metadata-only message."""
    assert parse_end_marker(pa.py_buffer(data)) >= 0


def authorization(data: bytes) -> None:
    """A header with credentials, up to the judgement of whatever it has."""
    token = bearer_header(data.split(SEPARATOR)).removeprefix("Bearer ")
    parsed = TokenText.parse(token)
    if parsed is None:
        WEB_TOKENS.verify(token)
    else:
        assert parsed.reveal() == token


def grants(data: bytes) -> None:
    """Grants, as tokens and claims have them; what is taken can be written and taken again."""
    parsed = Grants.parse(data.decode("utf-8", "surrogateescape").split(" "))
    assert Grants.parse(parsed.as_texts()) == parsed


def wire_error(data: bytes) -> None:
    """An error's ``extra_info``, of whatever server; what is decoded can be sent on."""
    failure = decode_status(data)
    if failure is not None:
        encode_status(failure)


def line_protocol(data: bytes) -> None:
    """Lines; what is taken can be written and taken again, also in tiny pieces."""
    points = _points(data, piece=len(data) or 1)
    text = "\n".join(point.to_line() for point in points)
    assert _points(text.encode(), piece=7) == points


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        put_command,
        put_path,
        flight_sql,
        flight_sql_ingest,
        flight_sql_message,
        statement,
        read_command,
        ticket,
        action_body,
        end_marker,
        authorization,
        grants,
        wire_error,
        line_protocol,
    )
}


def _points(data: bytes, *, piece: int) -> list[Point]:
    parser = LineParser(ns_per_unit=1)
    for start in range(0, len(data), piece):
        parser.feed(data[start : start + piece])
    return points_of(parser.finish())


def _with_headers(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Take an input apart: a body, then the values of headers."""
    body, *values = data.split(SEPARATOR)
    return body, {name: value.decode("latin-1") for name, value in zip(_HEADERS, values, strict=False) if value}
