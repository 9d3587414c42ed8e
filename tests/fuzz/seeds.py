"""Inputs to begin with: what clients send, and what once was trouble."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pyarrow as pa
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tests.fixtures.flight_sql import any_command, field, ingest_command, table_options
from tests.fuzz.targets import SEPARATOR
from timestore.errors import KINDS, error
from timestore.wire_errors import encode_status

INCARNATION = "12345678-1234-5678-1234-567812345678"
EDGE_INSTANTS = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "2026-02-30T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:00:60Z",
    "2026-01-01T00:00:00+99:99",
    "\u0662026-01-01T00:00:00Z",
]
# What may stand anywhere in a JSON text, as text: `json.dumps` could not spell it.
TOKENS = [
    "1" * 5_000,
    "-" + "9" * 400,
    "1e400",
    "-0.0",
    "NaN",
    "-Infinity",
    "[" * 3_000,
    '{"a":' * 3_000,
    '"\\ud800"',
    '"\\u0000"',
    '"\\udbff\\udfff"',
    '"' + "x" * 10_000 + '"',
    '{"a":1,"a":2}',
    "\ufeff",
    f'"{INCARNATION.replace("-", "")}"',
    f'"urn:uuid:{INCARNATION}"',
    f'"{{{INCARNATION}}}"',
    *(json.dumps(instant) for instant in EDGE_INSTANTS),
]


def _json(**fields: object) -> bytes:
    return json.dumps({"v": 1, "dataset": "cpu"} | fields).encode()


CREATE = {
    "timestamp_column": "ts",
    "window": "1h",
    "order": "sort",
    "evolution": "none",
    "min": "2026-01-01T00:00:00Z",
    "max": "2027-01-01T00:00:00Z",
    "future_tolerance_s": 1.5,
}
PUT = _json(key={"region": "eu"}, idempotency_key="a", end="eof", expected_rows=3, landing="file", create=CREATE)
READ = _json(key={"region": "eu"}, columns=["ts"], **{"from": CREATE["min"], "to": CREATE["max"]}, with_key=True)
POSITION = ["2026-01-01T00:00:00Z", '{"region":"eu"}']
TICKET = _json(incarnation=INCARNATION, version=3, first=POSITION, last=POSITION, columns=["ts"])
SCHEMA = base64.b64encode(pa.schema([("ts", pa.timestamp("us", "UTC"))], {"a": "b"}).serialize()).decode()
BODY = _json(**CREATE, schema=SCHEMA, cursor=["2026-01-01T00:00:00Z", "", "1", "2"], version=1)
HEADERS = SEPARATOR + SEPARATOR.join([b"a", b"3", b"eof", b'{"region":"eu"}'])
STATUS = encode_status(error("overloaded", "full", details={"limit": 3}, retry_after_s=1.5))


def _foreign_status() -> bytes:
    status = Status(code=14, message="no upstream")
    status.details.add().Pack(ErrorInfo(domain="timestore", reason="x", metadata={"a": "b"}))
    status.details.add().Pack(RetryInfo())
    status.details[1].value = field(1, b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
    return status.SerializeToString()


SEEDS: Mapping[str, list[bytes]] = {
    "put_command": [PUT, _json(), PUT + HEADERS],
    "put_path": [b"cpu/region=eu/site=12", b"cpu/region=eu" + HEADERS],
    "flight_sql": [ingest_command("cpu", 1, 2) + HEADERS, any_command("CommandStatementQuery", field(1, b"SELECT 1"))],
    "flight_sql_ingest": [
        table_options(1, 2) + field(2, b"cpu") + HEADERS,
        table_options(1, 1) + field(2, b"cpu") + field(4, b"x") + field(1000, field(1, b"k") + field(2, b"v")),
    ],
    "read_command": [READ, _json(as_of="2026-01-01T00:00:00Z"), _json(version=1)],
    "ticket": [TICKET],
    "action_body": [BODY, _json(as_of="2026-01-01T00:00:00Z"), _json(idempotency_key="a")],
    "end_marker": [b'{"end": true, "rows": 10}'],
    "wire_error": [STATUS, _foreign_status(), *(encode_status(error(kind, "x")) for kind in KINDS)],
}
