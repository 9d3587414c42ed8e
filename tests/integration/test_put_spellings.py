"""Descriptors in both spellings, end rules that succeed, and the answers on the stream."""

from __future__ import annotations

import time

import pyarrow.flight as flight
import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.raw_put import RawPut, command
from timestore.errors import TimestoreError
from timestore.receipt import Receipt

SENT = cpu_table(1_000)


def test_path_with_headers(client: timestore.Client, server_url: str) -> None:
    """A PATH descriptor with headers puts like a CMD one, and stands for the same append."""
    path = flight.FlightDescriptor.for_path("cpu", "region=eu", "site=12")
    put = RawPut(server_url, path, SENT.schema, {"x-idempotency-key": "a", "x-timestore-expected-rows": "1000"})
    put.send(SENT)

    receipt = put.finish()

    assert receipt["key"] == {"region": "eu", "site": "12"}
    assert client.append("cpu", SENT, key={"site": "12", "region": "eu"}, idempotency_key="a").replayed


def test_answers_in_order(server_url: str) -> None:
    """`ready` comes before data, the receipt last; the receipt has the fields of the protocol."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    ready = put.answer()
    put.send(SENT)
    put.mark_end(1_000)
    receipt = put.finish()

    assert ready == {"type": "ready", "v": 1, "dataset": "cpu", "schema_version": 1, "idempotency_key": "a"}
    assert set(receipt) == {
        "type", "v", "dataset", "incarnation", "key", "version", "append_id", "idempotency_key", "fingerprint", "rows",
        "bytes", "landing", "files", "files_total", "committed_at", "timings_ms", "replayed",
    }  # fmt: skip
    assert (receipt["type"], receipt["v"]) == ("receipt", 1)


def test_progress_on_long_puts(server_url: str) -> None:
    """A put that lasts hears how far it is, at most once a second."""
    put = RawPut(server_url, command(dataset="cpu", end="eof"), SENT.schema)
    put.answer()
    put.send(SENT.slice(0, 500))
    time.sleep(1.1)  # the interval under test, not synchronisation
    put.send(SENT.slice(500, 100))

    progress = put.answer()

    assert progress is not None
    assert progress["type"] == "progress"
    assert 500 < progress["rows"] <= 600
    assert put.finish()["rows"] == 600


def test_committed_hint_then_compare(client: timestore.Client, server_url: str) -> None:
    """A taken idempotency key answers `committed` with the receipt first, and still compares the whole stream."""
    first = client.append("cpu", SENT, idempotency_key="a")
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema)

    hint = put.answer()
    assert hint is not None
    put.send(SENT.slice(0, 10))
    put.mark_end(10)

    assert (hint["type"], Receipt.from_json(hint["receipt"])) == ("committed", first)
    with pytest.raises(TimestoreError) as caught:
        put.finish()
    assert caught.value.kind == "idempotency_conflict"


def test_fingerprint_lets_a_client_skip_sending(client: timestore.Client, server_url: str) -> None:
    """With the fingerprint in the descriptor a committed append answers its receipt to an empty stream."""
    first = client.append("cpu", SENT, idempotency_key="a")
    descriptor = command(dataset="cpu", idempotency_key="a", fingerprint=first.fingerprint)
    put = RawPut(server_url, descriptor, SENT.schema)
    put.answer()

    assert Receipt.from_json(put.finish()) == first.as_replay()


def test_wrong_fingerprint_is_refused(client: timestore.Client, server_url: str) -> None:
    """A fingerprint that the stream does not have is refused, and so is one of a committed append that differs."""
    wrong = command(dataset="cpu", idempotency_key="a", fingerprint="f1:00", end="eof")
    put = RawPut(server_url, wrong, SENT.schema)
    put.send(SENT)
    with pytest.raises(TimestoreError) as caught:
        put.finish()
    assert caught.value.kind == "descriptor_invalid"

    client.append("cpu", SENT, idempotency_key="a")
    with pytest.raises(TimestoreError) as caught:
        RawPut(server_url, wrong, SENT.schema).finish()
    assert caught.value.kind == "idempotency_conflict"


def test_eof_accepts_the_risk(server_url: str) -> None:
    """`"end": "eof"` trusts the end of the stream."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a", end="eof"), SENT.schema)
    put.send(SENT)

    assert put.finish()["rows"] == 1_000


def test_no_idempotency_key_needs_no_end(client: timestore.Client, server_url: str) -> None:
    """A put without an idempotency key gets one from the server, and is at-least-once."""
    for _ in range(2):
        put = RawPut(server_url, command(dataset="cpu"), SENT.schema)
        ready = put.answer()
        put.send(SENT)
        receipt = put.finish()
        assert ready is not None
        assert receipt["idempotency_key"] == ready["idempotency_key"]

    assert client.describe("cpu")["rows"] == 2_000


def test_header_that_differs_is_refused(server_url: str) -> None:
    """A header and a body that contradict each other are refused."""
    with pytest.raises(TimestoreError) as caught:
        RawPut(
            server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema, {"x-idempotency-key": "b"}
        ).finish()

    assert caught.value.kind == "descriptor_invalid"


def test_landing_that_is_not_there_yet_is_refused(client: timestore.Client) -> None:
    """`inline` and `arrow` landings are refused clearly, not silently replaced."""
    with pytest.raises(TimestoreError) as caught:
        client.append("cpu", SENT, landing="inline")

    assert caught.value.kind == "unsupported"
