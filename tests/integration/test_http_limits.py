"""Clients by HTTP that are slow, silent, too many or hostile: bounded, refused with words, and nothing is left."""

from __future__ import annotations

import gzip
import json
import socket
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import timestore
from http_gateway import append_routes, json_columns
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.http_requests import ARROW, JSON, NDJSON, PARQUET, Http, answer_on, chunk, http_of, stream_of
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import StartService, wait_until

ROW = b'{"ts":"2026-01-01T00:00:00Z","n":1}\n'
MIB = 1 << 20


def _columns_file() -> bytes:
    sink = BytesIO()
    pq.write_table(cpu_table(1_000), sink)
    return sink.getvalue()


BEGINNINGS = {
    "nothing": (b" ", JSON),
    "a line": (ROW, NDJSON),
    "an array": (b"[" + ROW, JSON),
    "columns": (b'{"ts":[', JSON),
    "an arrow stream": (stream_of(cpu_table(1_000))[:-100], ARROW),
    "parquet": (_columns_file()[:-100], PARQUET),
}


@pytest.mark.parametrize("begun", BEGINNINGS)
def test_a_silent_client(start_service: StartService, tmp_path: Path, begun: str) -> None:
    """A client that begins and falls silent is told so, and loses its place and all it held; its key stays free."""
    service = start_service(http_port=0, put_idle_timeout_s=0.5)
    first, content_type = BEGINNINGS[begun]
    with http_of(service).begin("cpu", content_type, first, idempotency_key="a") as connection:
        answer = answer_on(connection)
    assert (answer.status, answer.json["kind"]) == (504, "deadline_exceeded")
    with timestore.connect(service.url) as client:
        wait_until(lambda: client.stats()["running_puts"] == 0)
        stats = client.stats()
        assert (stats["buffered_bytes"], stats["staged_bytes"], stats["datasets"]) == (0, 0, 0)
    assert published_files(tmp_path) == []
    # On a machine that is busy, half a second may be too short for this client too.
    wait_until(lambda: http_of(service).append("cpu", ROW, NDJSON, idempotency_key="a").status in {200, 201})


def test_a_slow_client_is_not_silent(start_service: StartService) -> None:
    """A client that sends its rows in many small pieces is served."""
    service = start_service(http_port=0, put_idle_timeout_s=20.0)
    table = cpu_table(50)
    body = stream_of(table, rows_per_batch=10)
    with http_of(service).begin("cpu", ARROW, body[:100]) as connection, timestore.connect(service.url) as client:
        for start in range(100, len(body), 400):
            connection.sendall(chunk(body[start : start + 400]))
            client.stats()
        connection.sendall(b"0\r\n\r\n")
        assert answer_on(connection).json["rows"] == 50


def test_a_client_that_leaves_at_the_end(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends everything and goes away gets its append or none of it; sending again says which."""
    service = start_service(http_port=0)
    address = http_of(service)
    for number in range(10):
        with address.begin("cpu", NDJSON, ROW, idempotency_key=str(number)) as connection:
            connection.sendall(b"0\r\n\r\n")
    with timestore.connect(service.url) as client:
        wait_until(lambda: client.stats()["running_puts"] == 0)
        answers = [address.append("cpu", ROW, NDJSON, idempotency_key=str(number)).status for number in range(10)]
        assert set(answers) <= {200, 201}
        assert client.describe("cpu")["rows"] == 10


def test_too_many_puts(start_service: StartService) -> None:
    """A server that is at its limit says 429, and when to come again."""
    service = start_service(http_port=0, max_running_puts=1)
    put = RawPut(service.url, command(dataset="other", end="eof"), cpu_table(1).schema)
    assert put.answer() is not None
    refused = http_of(service).append("cpu", ROW, NDJSON)
    assert (refused.status, refused.json["kind"]) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    put.finish()
    with timestore.connect(service.url) as client:
        wait_until(lambda: client.stats()["running_puts"] == 0)
    assert http_of(service).append("cpu", ROW, NDJSON).status == 201


def test_too_many_bodies(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies beyond those that memory is set aside for wait a while, then hear 429; the others are not disturbed."""
    monkeypatch.setattr(append_routes, "ACQUIRE_TIMEOUT_S", 0.1)
    service = start_service(http_port=0, max_running_puts=1)
    address = http_of(service)
    with address.begin("cpu", JSON, b"[") as connection:
        wait_until(lambda: address.append("cpu", ROW, NDJSON).status == 429)
        connection.sendall(chunk(ROW + b"]") + b"0\r\n\r\n")
        assert answer_on(connection).status == 201
    assert address.append("cpu", ROW, NDJSON).status == 201


def test_a_server_that_stops(start_service: StartService) -> None:
    """A server that is told to stop refuses new appends as 503, and lets those that run finish."""
    service = start_service(http_port=0)
    address = http_of(service)
    with address.begin("cpu", NDJSON, ROW * 40_000) as connection:
        with timestore.connect(service.url) as client:
            wait_until(lambda: client.stats()["running_puts"] == 1)
        service._gate.close()
        refused = address.append("cpu", ROW, NDJSON)
        assert (refused.status, refused.json["kind"]) == (503, "shutting_down")
        assert refused.headers["retry-after"]
        connection.sendall(b"0\r\n\r\n")
        assert answer_on(connection).json["rows"] == 40_000


@pytest.mark.parametrize(
    ("piece", "content_type"), [(b" ", NDJSON), (b" ", JSON), (b'{"a":"', NDJSON), (b"[{", JSON), (b'{"a":[1', JSON)]
)
@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_bombs(http: Http, dataset: str, piece: bytes, content_type: str, codec: str) -> None:
    """A lot of nothing in a small body is unpacked piece by piece, and refused as soon as a row is too long."""
    bomb = _bomb(piece, codec)
    assert len(bomb) < MIB
    refused = http.append(dataset, bomb, content_type, content_encoding=codec)
    assert (refused.status, refused.json["kind"]) in {(413, "batch_too_large"), (422, "batch_invalid")}


def _bomb(piece: bytes, codec: str) -> bytes:
    """Pack a body that begins so and goes on with 64 MiB of spaces."""
    if codec == "gzip":
        sink = BytesIO()
        with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1) as packed:
            packed.write(piece)
            for _ in range(64):
                packed.write(b" " * MIB)
        return sink.getvalue()
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, codec) as packed:
        packed.write(piece)
        for _ in range(64):
            packed.write(b" " * MIB)
    return bytes(out.getvalue().to_pybytes())


def test_a_window_that_takes_memory(http: Http, dataset: str) -> None:
    """Zstandard that wants a window larger than HTTP allows is refused before any of it is unpacked."""
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(27 - 10) << 3]) + b"\0" * 20
    refused = http.append(dataset, frame, NDJSON, content_encoding="zstd")
    assert (refused.status, "window" in refused.json["detail"]) == (422, True)


@pytest.mark.parametrize("size", [300 * MIB, 2**31 - 8])
def test_a_message_that_claims_to_be_large(http: Http, dataset: str, size: int) -> None:
    """An Arrow message larger than a batch may be is refused by what it announces, before it is in memory."""
    refused = http.append(dataset, b"\xff\xff\xff\xff" + size.to_bytes(4, "little") + b"x" * 100, ARROW)
    assert (refused.status, refused.json["kind"]) == (413, "batch_too_large")


def test_columns_that_are_too_long(http: Http, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON columns must be in memory whole, so they may not be long: the refusal says what to send instead."""
    body = json.dumps({"ts": ["2026-01-01T00:00:00Z"] * (json_columns.MAX_COLUMNS_BYTES // 20)}).encode()
    refused = http.append(dataset, body, JSON)
    assert (refused.status, refused.json["kind"]) == (413, "batch_too_large")
    assert "x-ndjson" in refused.json["detail"]


@pytest.mark.parametrize("kind", ["not parquet", "no footer", "footer of nothing"])
def test_parquet_that_is_none(http: Http, dataset: str, kind: str) -> None:
    """What only looks like Parquet is refused as the body's fault."""
    body = {
        "not parquet": b"x" * 100,
        "no footer": _columns_file()[:200],
        "footer of nothing": b"PAR1" + b"\0" * 50 + (40).to_bytes(4, "little") + b"PAR1",
    }[kind]
    refused = http.append(dataset, body, PARQUET)
    assert (refused.status, refused.json["kind"]) == (422, "batch_invalid")


def test_staging_without_room(start_service: StartService) -> None:
    """A Parquet file that staging may never hold is refused as too large; what was kept of it is gone."""
    service = start_service(http_port=0, staging_limit="16MiB")
    table = pa.table({"ts": cpu_table(1).column("ts"), "x": ["x" * (17 * MIB)]})
    sink = BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False)
    refused = http_of(service).append("cpu", sink.getvalue(), PARQUET)
    assert (refused.status, refused.json["kind"]) == (413, "batch_too_large")
    with timestore.connect(service.url) as client:
        assert client.stats()["staged_bytes"] == 0


def test_headers_without_end(http: Http) -> None:
    """Headers that go on for ever are refused, and take no memory."""
    with socket.create_connection((http.host, http.port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        with pytest.raises(OSError, match=r"reset|Broken"):
            connection.sendall(b"x" * (64 * MIB))
