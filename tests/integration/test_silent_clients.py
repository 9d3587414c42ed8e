"""Clients that send nothing, or read nothing: they hold up nobody, and not for ever themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import timestore
from flight_server import put_stream
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.raw_flight import DO_PUT, flight_messages
from tests.fixtures.raw_put import RawPut, command, typed
from tests.fixtures.server import StartService, wait_until
from tests.fixtures.trickle import Trickle

SENT = cpu_table(600_000, step_s=0.1)  # enough for files to be written before the end


def test_a_silent_client_loses_what_it_holds(start_service: StartService, tmp_path: Path) -> None:
    """A put whose client falls silent gives back its place, memory, files and intents; the client hears why."""
    service = start_service(put_idle_timeout_s=3, max_running_puts=1)
    put = RawPut(service.url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    assert put.answer() is not None
    put.send(SENT)
    wait_until(lambda: len(published_files(tmp_path)) > 0)

    with timestore.connect(service.url) as client:
        wait_until(lambda: client.stats()["stalled_puts"] == 1)
        wait_until(lambda: client.stats()["running_puts"] == 0)
        stats = client.stats()
        assert (stats["buffered_bytes"], stats["intents"], stats["expired_puts"]) == (0, 0, 1)
        assert published_files(tmp_path) == []
        assert list((tmp_path / "server0" / "staging").glob("*-*")) == []

        receipt = client.append("cpu", SENT, idempotency_key="a")
        assert (receipt.version, receipt.rows, receipt.replayed) == (1, SENT.num_rows, False)

        put.writer.done_writing()
        with pytest.raises(flight.FlightError) as caught:
            put.writer.close()
        assert typed(caught.value).kind == "deadline_exceeded"
        wait_until(lambda: client.stats()["stalled_puts"] == 0)
        assert client.describe("cpu")["rows"] == SENT.num_rows


def test_a_client_that_never_begins(start_service: StartService) -> None:
    """A put that was accepted and never sends a row is given up too; nothing is created."""
    service = start_service(put_idle_timeout_s=0.2)
    put = RawPut(service.url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    assert put.answer() is not None

    with timestore.connect(service.url) as client:
        wait_until(lambda: client.stats()["running_puts"] == 0)
        assert client.datasets() == []


def test_a_slow_client_is_not_silent(start_service: StartService) -> None:
    """A client that takes several times the timeout in all, but never as long at once, is served."""
    service = start_service(put_idle_timeout_s=2.0)
    put = RawPut(service.url, command(dataset="cpu", end="eof"), SENT.schema)
    with timestore.connect(service.url) as client:
        for part in range(5):
            put.send(SENT.slice(part * 10, 10))
            wait_until(lambda: client.stats()["running_puts"] == 1)

        assert put.finish()["rows"] == 50
        assert client.stats()["expired_puts"] == 0


def test_messages_without_rows_keep_no_put_alive(start_service: StartService) -> None:
    """A client that keeps sending batches without rows is given up like one that sends nothing."""
    service = start_service(put_idle_timeout_s=0.5)
    put = RawPut(service.url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in SENT.schema], schema=SENT.schema)

    def send_for_long() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            put.writer.write_batch(empty)
            client.stats()  # a pause that is not measured in time

    with timestore.connect(service.url) as client, pytest.raises(flight.FlightError) as caught:
        send_for_long()
    assert typed(caught.value).kind == "deadline_exceeded"


def test_bytes_that_trickle_keep_no_put_alive(start_service: StartService) -> None:
    """A client that sends one message byte by byte is given up as silent, though its connection is never quiet."""
    service = start_service(put_idle_timeout_s=0.5)
    begin, batch = flight_messages(SENT, command(dataset="cpu", idempotency_key="a"))
    trickle = Trickle(service.port)
    with (
        grpc.insecure_channel(f"127.0.0.1:{trickle.port}", [("grpc.max_send_message_length", -1)]) as channel,
        timestore.connect(service.url) as client,
        trickle,  # ends first: the channel waits until all that it has to say was passed on
    ):
        call = channel.stream_stream(DO_PUT)(iter([begin, batch]), timeout=60)
        next(call)  # ready
        wait_until(lambda: client.stats()["expired_puts"] == 1)
        assert trickle.sent_lately()
        wait_until(lambda: client.stats()["running_puts"] == 0)
        call.cancel()


def test_answers_that_nobody_reads_freeze_nothing(
    service: object, server_url: str, client: timestore.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client with a small window that never reads an answer gets its put committed, however many batches it has."""
    monkeypatch.setattr(put_stream, "PROGRESS_INTERVAL_S", 0.0)  # as if every batch took more than a second
    sent = cpu_table(20_000, step_s=1)
    requests = flight_messages(
        pa.Table.from_batches(sent.to_batches(max_chunksize=1)), command(dataset="cpu", end="eof")
    )

    def stream() -> Iterator[bytes]:
        yield from requests

    small_window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384)]
    with grpc.insecure_channel(server_url.removeprefix("grpc://"), small_window) as channel:
        call = channel.stream_stream(DO_PUT)(stream(), timeout=60)
        wait_until(lambda: bool(client.datasets()), timeout_s=60)
        assert client.describe("cpu")["rows"] == sent.num_rows
        call.cancel()
