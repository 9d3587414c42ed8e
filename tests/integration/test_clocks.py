"""Clocks step, forwards and back: no version goes back in time, no put is lost, nothing alive is swept."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

import timestore
from catalog.connections import Connections
from tests.fixtures.data import cpu_table
from tests.fixtures.server import StartService

YEAR_S = 366 * 86_400


def test_versions_never_go_back_in_time(client: timestore.Client, connections: Connections) -> None:
    """When the catalog's clock steps back, the next version has the time of the one before, and `as_of` finds both."""
    client.append("cpu", cpu_table(10))
    with connections.connection() as connection:  # as if the first version had come before the clock was set back
        for table in ("versions", "dataset_heads"):
            connection.execute(f"UPDATE {table} SET committed_at = committed_at + interval '1 day'".encode())

    second = client.append("cpu", cpu_table(10, offset=10))

    times = [datetime.fromisoformat(entry["committed_at"]) for entry in client.history("cpu")]
    assert times[0] == times[1] == second.committed_at
    assert client.read("cpu", as_of=times[0]).num_rows == 20
    assert client.read("cpu", as_of=times[0] - timedelta(seconds=1)).num_rows == 0


@pytest.mark.parametrize("step_s", [-YEAR_S, YEAR_S], ids=["back", "forwards"])
def test_a_servers_clock_decides_nothing(
    start_service: StartService, connections: Connections, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    """A server whose clock is a year off commits, replays and keeps its lease: only the catalog's clock counts."""
    now, now_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now() + step_s)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + step_s * 1_000_000_000)
    with timestore.connect(start_service().url) as client:
        receipt = client.append("cpu", cpu_table(10), idempotency_key="a")

        assert abs(receipt.committed_at.timestamp() - now()) < 3_600
        assert client.append("cpu", cpu_table(10), idempotency_key="a") == receipt.as_replay()
    with connections.connection() as connection:
        [(left_s,)] = connection.execute(
            b"SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM server_leases"
        ).fetchall()
    assert 0 < left_s <= 30


def test_only_bounds_look_at_the_servers_clock(client: timestore.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """`future_tolerance_s` is the one rule that asks the server what time it is."""
    rows = cpu_table(10)
    in_the_year_before = rows.column("ts")[0].as_py().timestamp() - YEAR_S
    monkeypatch.setattr(time, "time", lambda: in_the_year_before)
    assert client.append("cpu", rows).version == 1

    with pytest.raises(timestore.TimestoreError) as caught:
        client.append("bounded", rows, create={"future_tolerance_s": 60})

    assert caught.value.kind == "timestamp_out_of_bounds"
