"""What the examples without our library repeat, and how: seen by a server that is in trouble."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.flight as flight

from tests.clients.programs import Program, each, write_stream
from tests.fixtures.data import cpu_table
from timestore.errors import error
from timestore.wire_errors import encode_status

DELAY_S = 0.7


class TroubledServer(flight.FlightServerBase):
    """Answers each put by the next of its troubles, and those after them by a receipt."""

    def __init__(self, *troubles: Callable[[], None]) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.puts: list[tuple[float, bytes]] = []
        self._troubles = list(troubles)
        self._lock = threading.Lock()

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Note the put, be in trouble or not, and answer."""
        with self._lock:
            self.puts.append((time.monotonic(), descriptor.command))
            trouble = self._troubles.pop(0) if self._troubles else None
        if trouble is not None:
            trouble()
        speaks_sql = b"CommandStatementIngest" in descriptor.command
        if not speaks_sql:
            writer.write(json.dumps({"type": "ready"}).encode())
        rows = sum(chunk.data.num_rows for chunk in reader if chunk.data is not None)
        if trouble is None:
            writer.write(bytes([8, rows]) if speaks_sql else json.dumps({"type": "receipt", "rows": rows}).encode())


def _overloaded() -> None:
    failure = error("overloaded", "too many puts", retry_after_s=DELAY_S)
    raise flight.FlightUnavailableError(str(failure), encode_status(failure))


def _behind_a_broken_balancer() -> None:
    raise flight.FlightUnavailableError("no healthy upstream")


def _ends_without_a_receipt() -> None:
    """The stream is taken and ends well, but no receipt comes."""


@each()
def test_the_same_is_sent_until_there_is_an_answer(program: Program, tmp_path: Path) -> None:
    """What may be repeated is sent again under the same idempotency key, not before the delay that the server asks for;
    a stream that ends without a receipt counts as one that failed.
    """
    troubles = [_overloaded, _behind_a_broken_balancer]
    if not program.speaks_sql:
        troubles.append(_ends_without_a_receipt)
    file = write_stream(cpu_table(7), tmp_path / "sent.arrows")

    with TroubledServer(*troubles) as server:
        url = f"grpc://127.0.0.1:{server.port}"
        printed = program.run(*program.put, "cpu", file, "--idempotency-key", "upload-17", "--url", url)

    assert (printed == "7\n") if program.speaks_sql else (json.loads(printed)["rows"] == 7)
    times, commands = zip(*server.puts, strict=True)
    assert len(commands) == len(troubles) + 1
    assert len(set(commands)) == 1
    assert times[1] - times[0] >= DELAY_S


@each()
def test_the_deadline_ends_it(program: Program, tmp_path: Path) -> None:
    """When the deadline has passed, the last error is told, by kind."""
    file = write_stream(cpu_table(7), tmp_path / "sent.arrows")

    with TroubledServer(*[_overloaded] * 100) as server:
        url = f"grpc://127.0.0.1:{server.port}"
        refused = program.refusal(*program.put, "cpu", file, "--idempotency-key", "a", "--url", url, "--deadline", 1)

    assert "(overloaded)" in refused
    assert 1 <= len(server.puts) <= 2
