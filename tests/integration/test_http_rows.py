"""Reading by HTTP: the same rows as by Flight, in any format, at any version; and an answer that is cut shows it."""

from __future__ import annotations

import http.client
import socket
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

import timestore
from readers import file_reader
from tests.fixtures.data import cpu_table
from tests.fixtures.http_requests import CSV, NDJSON, Http, http_of
from tests.fixtures.server import StartService

TABLE = cpu_table(30_000, step_s=10)  # some days, and more rows than a batch of text has


@pytest.fixture(name="filled")
def _filled(flight: timestore.Client, dataset: str) -> str:
    """A dataset with three versions."""
    flight.append(dataset, TABLE.slice(0, 10_000), key={"site": "a"})
    flight.append(dataset, TABLE.slice(10_000, 10_000), key={"site": "b"})
    flight.append(dataset, TABLE.slice(20_000), key={"site": "b"})
    return f"/v1/datasets/{dataset}"


@pytest.mark.parametrize("format_", ["arrow", "ndjson", "csv"])
def test_formats(http: Http, filled: str, dataset: str, format_: str) -> None:
    """Rows come in the format asked for, whole, in order, and can be appended again as the same rows."""
    answer = http.get(f"{filled}/rows?format={format_}")
    assert (answer.status, answer.headers["timestore-version"]) == (200, "3")
    if format_ == "arrow":
        assert answer.table.sort_by("ts").equals(TABLE)
        return
    copied = http.append(f"{dataset}c", answer.body, NDJSON if format_ == "ndjson" else CSV, "?order=any")
    assert (copied.status, copied.json["rows"]) == (201, TABLE.num_rows), copied.body
    again = http.get(f"/v1/datasets/{dataset}c/rows?format=arrow").table
    assert again.select(TABLE.column_names).sort_by("ts").equals(TABLE)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/x-ndjson"),
        ("application/json", "application/x-ndjson"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("text/html, application/vnd.apache.arrow.stream;q=0.9", "application/vnd.apache.arrow.stream"),
    ],
)
def test_accepted_formats(http: Http, filled: str, accept: str, content_type: str) -> None:
    """Without a format in the query, the client's Accept decides."""
    assert http.get(f"{filled}/rows?to=2026-01-01T00:00:01Z", accept=accept).headers["content-type"] == content_type


def test_selections(http: Http, flight: timestore.Client, filled: str, dataset: str) -> None:
    """Version, key, columns and times select the same rows as by Flight."""
    query = (
        "version=2&key=site=b&column=usage&column=ts&from=2026-01-02T06:00:00Z&to=2026-01-03T00:00:00Z&with_key=true"
    )
    got = http.get(f"{filled}/rows?format=arrow&{query}").table
    expected = flight.read(
        dataset,
        version=2,
        key={"site": "b"},
        columns=["usage", "ts"],
        start=datetime(2026, 1, 2, 6, tzinfo=UTC),
        end=datetime(2026, 1, 3, tzinfo=UTC),
        with_key=True,
    )
    assert got.num_rows > 1_000
    assert got.equals(expected)
    assert http.get(f"{filled}/rows?version=0").body == b""
    assert http.get(f"{filled}/rows?version=0&format=csv").body.count(b"\n") == 1


def test_tables(http: Http, flight: timestore.Client, filled: str, dataset: str) -> None:
    """Datasets, manifests and history come in pages that together are what Flight's actions list."""
    manifest = list(flight.manifest(dataset, version=2))
    pages, cursor = [], ""
    while cursor is not None:
        page = http.get(f"{filled}/manifest?version=2&limit=2{cursor and '&cursor=' + cursor}").json
        assert len(page["items"]) <= 2
        pages += page["items"]
        cursor = page["next"]
    assert pages == manifest
    assert len(manifest) > 2
    only_b = http.get(f"{filled}/manifest?key=site=b&from=2026-01-03T12:00:00Z").json["items"]
    assert {item["key"]["site"] for item in only_b} == {"b"}

    first = http.get(f"{filled}/history?limit=2").json
    rest = http.get(f"{filled}/history?limit=2&cursor={first['next']}").json
    assert [item["version"] for item in first["items"] + rest["items"]] == [3, 2, 1]
    assert rest["next"] is None

    assert http.get(filled).json == flight.describe(dataset)
    listed = http.get(f"/v1/datasets?prefix={dataset}").json
    assert listed == {"items": [flight.describe(dataset)], "next": None}
    for wrong in ("manifest?cursor=x", "history?cursor=WyJ4Il0", "manifest?limit=501", "history?limit=0"):
        assert http.get(f"{filled}/{wrong}").status == 400


def test_values_as_json(http: Http, flight: timestore.Client, dataset: str) -> None:
    """Every type has a form in JSON: numbers with all their digits, times as RFC 3339, and what has none as text."""
    table = pa.table(
        {
            "ts": pa.array([1], pa.timestamp("us", "UTC")),
            "far": pa.array([2**63 - 1], pa.int64()),
            "none": pa.array([float("nan")]),
            "most": pa.array([float("-inf")]),
            "text": pa.array(['a"b\\\n\x01é']),
            "dec": pa.array([Decimal("0.00000001")], pa.decimal128(10, 8)),
            "raw": pa.array([b"\xff"]),
            "list": pa.array([[{"x": 1.5, "t": None}]]),
            "null": pa.array([None], pa.int8()),
            "day": pa.array([1], pa.date32()),
            "span": pa.array([1_500_000], pa.duration("us")),
        }
    )
    flight.append(dataset, table)
    answer = http.get(f"/v1/datasets/{dataset}/rows")
    assert answer.lines == [
        {
            "ts": "1970-01-01T00:00:00.000001Z",
            "far": 2**63 - 1,
            "none": "NaN",
            "most": "-Infinity",
            "text": 'a"b\\\n\x01é',
            "dec": 1e-8,
            "raw": "/w==",
            "list": [{"x": 1.5, "t": None}],
            "null": None,
            "day": "1970-01-02",
            "span": 1.5,
        }
    ]
    refused = http.get(f"/v1/datasets/{dataset}/rows?format=csv")
    assert (refused.status, refused.json["kind"]) == (406, "unsupported")
    assert http.get(f"/v1/datasets/{dataset}/rows?format=csv&column=far").body == b'"far"\n9223372036854775807\n'


def _ask(address: Http, path: str) -> socket.socket:
    """Ask for rows, and read nothing of the answer but its beginning."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(60)
    connection.connect((address.host, address.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


@pytest.fixture(name="one_reader")
def _one_reader(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> Http:
    """A server with a single reader, which gives way at once, and a dataset that no socket's buffers can hold."""
    monkeypatch.setattr("timestore_app.reading_side.READERS", 1)
    monkeypatch.setattr(file_reader.ReaderPool.__init__, "__kwdefaults__", {"idle_timeout_s": 0.2})
    service = start_service(http_port=0)
    with timestore.connect(service.url) as client:
        client.append("cpu", cpu_table(300_000, step_s=0.05), create={"window": "month"})
    return http_of(service)


def test_a_stalled_reader_gives_way(one_reader: Http) -> None:
    """A client that takes nothing loses its reader to one that does; its answer has no end, which it can see."""
    with _ask(one_reader, "/v1/datasets/cpu/rows?format=arrow") as stalled:
        answer = one_reader.get("/v1/datasets/cpu/rows?format=ndjson&to=2026-01-01T00:00:10Z")
        assert (answer.status, len(answer.lines)) == (200, 200)
        response = http.client.HTTPResponse(stalled)
        response.fp.close()
        rest = b""
        while data := stalled.recv(1 << 20):
            rest += data
        assert not rest.endswith(b"0\r\n\r\n")


def test_a_reader_that_leaves(one_reader: Http) -> None:
    """A client that goes away in the middle leaves its reader to others at once."""
    for _ in range(3):
        _ask(one_reader, "/v1/datasets/cpu/rows?format=csv").close()
    assert one_reader.get("/v1/datasets/cpu/rows?to=2026-01-01T00:00:01Z").status == 200
