"""A stream that ends is not a stream that succeeded: PROTOCOL 1, "Where a stream ends"."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.flight as flight
import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.raw_put import RawPut, command, typed
from tests.fixtures.server import same_user_environment, wait_until
from timestore.errors import TimestoreError

SENT = cpu_table(50_000, step_s=1)


@pytest.fixture(autouse=True)
def _nothing_committed_then_a_retry_works(client: timestore.Client, tmp_path: Path):
    """After every broken stream here: nothing is visible, nothing lies around, and a retry with the key works."""
    yield
    wait_until(lambda: client.stats()["running_puts"] == 0)
    assert client.datasets() == []
    assert published_files(tmp_path) == []
    assert client.stats()["intents"] == 0
    assert client.stats()["buffered_bytes"] == 0
    receipt = client.append("cpu", SENT, idempotency_key="a")
    assert (receipt.version, receipt.rows, receipt.replayed) == (1, SENT.num_rows, False)


def test_end_without_marker_is_refused(server_url: str) -> None:
    """Under an idempotency key, an end that nobody announced is refused."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    put.send(SENT)

    with pytest.raises(TimestoreError) as caught:
        put.finish()

    assert caught.value.kind == "end_missing"
    assert caught.value.details["rows_received"] == "50000"


@pytest.mark.parametrize("said", [49_999, 50_001])
def test_wrong_expected_rows_are_refused(server_url: str, said: int) -> None:
    """expected_rows that are not what came are refused."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a", expected_rows=said), SENT.schema)
    put.send(SENT)

    with pytest.raises(TimestoreError) as caught:
        put.finish()

    assert caught.value.kind == "row_count_mismatch"


def test_wrong_marker_is_refused(server_url: str) -> None:
    """An end marker with another row count is refused."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    put.send(SENT)
    put.mark_end(7)

    with pytest.raises(TimestoreError) as caught:
        put.finish()

    assert caught.value.kind == "row_count_mismatch"


def test_data_after_the_marker_is_refused(server_url: str) -> None:
    """Nothing may come after the end marker."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    put.send(SENT)
    put.mark_end(SENT.num_rows)
    put.send(SENT.slice(0, 1))

    with pytest.raises(TimestoreError) as caught:
        put.finish()

    assert caught.value.kind == "end_missing"


def test_exception_inside_the_writer_block(server_url: str) -> None:
    """An exception in the client's `with writer:` block ends the stream cleanly; half of the rows must not commit."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema)

    def fail_in_the_block() -> None:
        with put.writer:
            put.send(SENT.slice(0, 20_000))
            raise RuntimeError("the client's own failure")

    with pytest.raises((RuntimeError, flight.FlightError)):
        fail_in_the_block()


def test_killed_client(server_url: str) -> None:
    """A client killed in the middle of its stream leaves nothing, even one that asked for no end marker."""
    script = f"""
import os, signal
from tests.fixtures.data import cpu_table
from tests.fixtures.raw_put import RawPut, command
sent = cpu_table(50_000, step_s=1)
put = RawPut({server_url!r}, command(dataset="cpu", idempotency_key="a", end="eof"), sent.schema)
assert put.answer()["type"] == "ready"
put.send(sent.slice(0, 20_000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], env=same_user_environment(), check=False, timeout=60)

    assert killed.returncode == -9


def test_cancelled_call(server_url: str) -> None:
    """A call whose deadline passes is cancelled and leaves nothing, even one that asked for no end marker."""
    descriptor = command(dataset="cpu", idempotency_key="a", end="eof")
    put = RawPut(server_url, descriptor, SENT.schema, timeout_s=1)
    assert put.answer() is not None
    put.send(SENT.slice(0, 20_000))

    assert put.answer() is None


def test_metadata_that_is_no_marker_is_refused(server_url: str) -> None:
    """A metadata-only message is the end marker or a mistake."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    put.writer.write_metadata(b'{"hello": 1}')

    with pytest.raises(TimestoreError) as caught:
        put.finish()

    assert caught.value.kind == "descriptor_invalid"


def test_refused_before_any_data(server_url: str) -> None:
    """A schema that cannot be taken is refused instead of `ready`, before any data is sent."""
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.select(["host"]).schema)

    assert put.answer() is None
    with pytest.raises(flight.FlightError) as caught:
        put.writer.close()

    assert typed(caught.value).kind == "schema_mismatch"
