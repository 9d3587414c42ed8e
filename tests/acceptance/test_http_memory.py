"""Bodies by HTTP take bounded memory, however long they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil

from tests.fixtures.http_requests import NDJSON, Http
from tests.fixtures.memory import watched_memory
from tests.fixtures.server import ServerProcess

MIB = 1 << 20
BUDGET_BYTES = 256 * MIB
CONSTANT_BYTES = 256 * MIB  # Python, libraries, and what allocators keep
ROWS_PER_PIECE = 2_000
PIECES = 400  # 100 MiB and more


def _pieces() -> Iterator[bytes]:
    """Rows in order, some of which no piece ends with."""
    for piece in range(PIECES):
        stamp = f"2026-01-01T{piece // 60 % 24:02}:{piece % 60:02}:00"
        rows = "".join(
            f'{{"ts":"{stamp}.{row:06}Z","host":"host-{row % 50}","usage":{row}.5,"text":"{"x" * 70}{row}"}}\n'
            for row in range(ROWS_PER_PIECE)
        )
        yield rows.encode()


def test_a_body_larger_than_a_chunk_by_far(server_process: Callable[..., ServerProcess]) -> None:
    """A hundred megabytes of JSON lines stream through within the budget and a constant, and are all there."""
    server = server_process("--memory-budget", str(BUDGET_BYTES), "--http-port", "0")
    address = Http(server.http_url)
    with watched_memory(psutil.Process(server.pid)) as peak:
        answer = address.append("big", _pieces(), NDJSON, idempotency_key="a")
    assert (answer.status, answer.json["rows"]) == (201, PIECES * ROWS_PER_PIECE), answer.body
    assert peak() < BUDGET_BYTES + CONSTANT_BYTES
