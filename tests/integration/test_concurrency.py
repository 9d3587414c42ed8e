"""Many clients at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import StartService
from timestore.errors import OverloadedError, TimestoreError


def _at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Run calls on threads that start together; exceptions are results."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return call(number)
        except TimestoreError as failure:
            return failure

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_one_key_at_once_is_one_append(start_service: StartService, tmp_path: Path) -> None:
    """16 clients with one idempotency key, on two servers: one append, 16 receipts equal but for `replayed`."""
    urls = [start_service().url, start_service().url]
    sent = cpu_table(20_000)

    def append(number: int) -> timestore.Receipt:
        with timestore.connect(urls[number % 2]) as client:
            return client.append("cpu", sent, key={"region": "eu"}, idempotency_key="a")

    receipts = _at_once(16, append)

    assert all(isinstance(receipt, timestore.Receipt) for receipt in receipts), receipts
    assert len({str(receipt.as_replay().as_json()) for receipt in receipts}) == 1
    assert [receipt.replayed for receipt in receipts].count(False) == 1
    with timestore.connect(urls[0]) as client:
        assert client.describe("cpu")["version"] == 1
        assert client.read("cpu").equals(sent)
        assert len(published_files(tmp_path / "data")) == len(client.manifest("cpu"))
        assert client.stats()["intents"] == 0


def test_one_key_with_different_rows_is_one_append(client: timestore.Client) -> None:
    """Different streams racing for one idempotency key: one commits, every other is refused."""
    results = _at_once(8, lambda number: client.append("cpu", cpu_table(100, seed=number), idempotency_key="a"))

    receipts = [result for result in results if isinstance(result, timestore.Receipt)]
    refused = [result for result in results if isinstance(result, TimestoreError)]
    assert (len(receipts), {failure.kind for failure in refused}) == (1, {"idempotency_conflict"})
    assert client.describe("cpu")["rows"] == 100


def test_different_puts_at_once_all_land(server_url: str, client: timestore.Client) -> None:
    """50 puts at once, each creating the dataset if it is first: 50 versions without gaps, every row once."""

    def append(number: int) -> timestore.Receipt:
        with timestore.connect(server_url) as own:
            return own.append("cpu", cpu_table(500, seed=number), key={"site": str(number % 5)})

    receipts = _at_once(50, append)

    assert sorted(receipt.version for receipt in receipts) == list(range(1, 51))
    assert client.describe("cpu")["rows"] == 25_000
    assert [entry["version"] for entry in client.history("cpu")] == list(range(50, 0, -1))
    moments = [entry["committed_at"] for entry in client.history("cpu")]
    assert moments == sorted(moments, reverse=True)


def test_evolutions_that_race_are_both_kept_or_refused(client: timestore.Client) -> None:
    """Puts that add different columns at once leave one schema with all of them; none loses a row or half a column."""
    client.append("cpu", cpu_table(10))

    def append(number: int) -> timestore.Receipt:
        return client.append("cpu", cpu_table(10).rename_columns(["ts", "host", "usage", "errors", f"up{number}"]))

    results = _at_once(8, append)

    assert all(isinstance(result, timestore.Receipt) for result in results), results
    read = client.read("cpu")
    assert read.num_rows == 90
    for number in range(8):
        assert read.column(f"up{number}").null_count == 80


def test_creations_that_differ_leave_one_dataset(client: timestore.Client) -> None:
    """Two first puts that would create the dataset differently: one wins, the others are told and leave nothing."""
    windows = ["1h", "1d", "month", "year"]

    results = _at_once(4, lambda number: client.append("cpu", cpu_table(10), create={"window": windows[number]}))

    refused = {result.kind for result in results if isinstance(result, TimestoreError)}
    assert refused <= {"fenced", "dataset_exists"}
    committed = [result for result in results if isinstance(result, timestore.Receipt)]
    assert len(committed) == 1
    assert client.describe("cpu")["rows"] == 10


def test_too_many_puts_are_refused_with_a_delay(start_service: StartService) -> None:
    """Past max_running_puts a put is refused at once, with a retry delay, and works once there is room."""
    url = start_service(max_running_puts=1).url
    holding = RawPut(url, command(dataset="cpu"), cpu_table(1).schema)
    assert holding.answer() is not None

    with timestore.connect(url) as client:
        with pytest.raises(OverloadedError) as caught:
            client.append("cpu", cpu_table(1))
        assert caught.value.retry_after_s
        holding.finish()
        assert client.append("cpu", cpu_table(1)).rows == 1
