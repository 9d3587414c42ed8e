"""Inputs to begin with: what clients send, and what once was trouble."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from uuid import UUID

import pyarrow as pa
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tests.fixtures.flight_sql import any_command, field, ingest_command, table_options
from tests.fuzz.targets import SEPARATOR
from timestore.errors import KINDS, error
from timestore.flight_sql import Statement
from timestore.flight_sql.statements import PinnedDataset
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


STATEMENT = Statement(
    query="SELECT ?",
    parameters=b"\x00",
    pinned={"cpu": PinnedDataset(incarnation=UUID(int=7), version=3)},
    timeout_s=5.0,
).to_bytes()


def _web_token(header: dict[str, str], claims: bytes) -> bytes:
    parts = (json.dumps(header).encode(), claims, b"x" * 64)
    return b"Bearer " + b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


SEEDS: Mapping[str, list[bytes]] = {
    "put_command": [PUT, _json(), PUT + HEADERS],
    "put_path": [b"cpu/region=eu/site=12", b"cpu/region=eu" + HEADERS],
    "flight_sql": [ingest_command("cpu", 1, 2) + HEADERS, any_command("CommandStatementQuery", field(1, b"SELECT 1"))],
    "flight_sql_ingest": [
        table_options(1, 2) + field(2, b"cpu") + HEADERS,
        table_options(1, 1) + field(2, b"cpu") + field(4, b"x") + field(1000, field(1, b"k") + field(2, b"v")),
    ],
    "flight_sql_message": [
        b"\x00" + field(1, b"timestore") + field(3, b"c%") + field(4, b"TABLE") + b"\x28\x01",
        b"\x01" + field(1, b"SELECT 1"),
        b"\x02" + field(1, STATEMENT),
        b"\x03\x0a\x02\x01\x08",
    ],
    "statement": [STATEMENT, _json(query="SELECT 1"), _json(query="x", schema="AA==", shapes={"cpu": "a/1/0"})],
    "read_command": [READ, _json(as_of="2026-01-01T00:00:00Z"), _json(version=1)],
    "ticket": [TICKET],
    "action_body": [BODY, _json(as_of="2026-01-01T00:00:00Z"), _json(idempotency_key="a")],
    "end_marker": [b'{"end": true, "rows": 10}'],
    "line_protocol": [
        b'cpu,host=a,r=eu\\ west v=1.5,n=-3i,u=7u,ok=t,s="a \\"b\\" \\\\ c" 1767225600000000000\n# x\n\n  m v=1\r\n',
        b'm\\,\\ x,t\\==\\\\v f\\ =1e-3,g="two\nlines"\n',
        b"\n".join(b"m%d,t=%d f=%d" % (n % 3, n, n) for n in range(20)),
    ],
    "authorization": [
        b"Bearer tst_0123456789abcdef_" + b"A" * 43,
        b"Basic " + base64.b64encode(b"me:secret").rstrip(b"="),
        _web_token({"alg": "ES256", "kid": "one"}, b'{"sub": "a"}'),
        _web_token({"alg": "none"}, b'{"sub": "a"}'),
        b"Bearer " + base64.urlsafe_b64encode(b"[" * 6_000) + b".e30.AA",
        b"Bearer a.b.c" + SEPARATOR + b"Bearer d",
        "Bearer \u00e4.\u00e4.\u00e4".encode("latin-1"),
    ],
    "grants": [b"append:sensors_*", b"read,append:a_* admin:*", b"read:" + b"*" * 128],
    "wire_error": [STATUS, _foreign_status(), *(encode_status(error(kind, "x")) for kind in KINDS)],
}
