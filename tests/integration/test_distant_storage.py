"""Puts over a store that is slow, fails, is away, or hangs: slower, or refused so that they can be sent again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import timestore
from catalog.connections import Connections
from catalog.lifecycle import SWEPT_KEPT, Lifecycle
from storage.local import LocalStore
from storage.targets import Targets
from tests.fixtures.data import START, cpu_table
from tests.fixtures.files import manifest_paths, published_files, read_with_duckdb
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import StartService, wait_until
from tests.fixtures.stores import Away, FailsEveryThird, Hangs, Slow, StartDistant
from timestore.errors import RetryableError, TimestoreError
from writers.housekeeping import Housekeeping

MIB = 1 << 20
SENT = cpu_table(1_000)
MANY_DAYS = cpu_table(720, step_s=3_600)  # 30 files


def random_table(rows: int, *, step_us: int = 1_000_000) -> pa.Table:
    """Ordered rows of 72 bytes that nothing can compress."""
    values = np.random.default_rng(1).random((8, rows))
    stamps = pa.array(START + np.arange(rows, dtype=np.int64) * step_us, pa.timestamp("us", "UTC"))
    return pa.table({"ts": stamps, **{f"v{number}": column for number, column in enumerate(values)}})


def assert_stored(client: timestore.Client, dataset: str, sent: pa.Table) -> None:
    """The listed files hold the rows that were sent, and there are no others."""
    paths = manifest_paths(client, dataset)
    assert published_files(paths[0].parents[1]) == sorted(paths)
    stored = pa.concat_tables(read_with_duckdb(path) for path in paths).sort_by("ts")
    assert stored.column("ts").cast(pa.int64()).equals(sent.column("ts").cast(pa.int64()))


def test_a_slow_store_slows_a_put(start_distant: StartDistant) -> None:
    """Files go out several at once while others are written: many files take far less than their times together."""
    service, store = start_distant()
    store.trouble = Slow(call_s=0.3, bytes_per_s=200 * MIB)
    with timestore.connect(service.url) as client:
        receipt = client.append("cpu", MANY_DAYS)

        assert receipt.files_total == 30
        assert store.most_uploads > 1
        assert_stored(client, "cpu", MANY_DAYS)


def test_writing_goes_on_while_an_upload_is_under_way(start_distant: StartDistant, tmp_path: Path) -> None:
    """One file that takes long keeps no other from being written and uploaded, only the receipt from being given."""
    service, store = start_distant(writer_threads=1)
    store.trouble = hangs = Hangs("put", words="20260101T")
    with timestore.connect(service.url) as client, ThreadPoolExecutor() as pool:
        put = pool.submit(client.append, "cpu", MANY_DAYS)
        assert hangs.begun.wait(30)
        wait_until(lambda: len(published_files(tmp_path / "data")) == 29)
        assert client.stats()["uploads"] == 1
        assert not put.done()
        hangs.let_go()

        assert put.result(timeout=30).files_total == 30
        assert_stored(client, "cpu", MANY_DAYS)
        stats = client.stats()
        assert (stats["uploads"], stats["staged_bytes"], stats["intents"]) == (0, 0, 0)


def test_staging_keeps_to_its_limit(start_distant: StartDistant, tmp_path: Path) -> None:
    """A put of several times the limit waits for its own uploads, fills the disk no further, and is not failed."""
    service, store = start_distant(staging_limit="16MiB", memory_budget="256MiB")
    store.trouble = Slow(call_s=0, bytes_per_s=40 * MIB)
    sent = random_table(1_000_000, step_us=10_000)
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            seen.append(sum(_size(path) for path in (tmp_path / "server0" / "staging").glob("*.duckdb")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with timestore.connect(service.url) as client:
        receipt = client.append("random", sent)
        done.set()
        watcher.join()

        assert sum(file.bytes for file in receipt.files) > 50 * MIB
        assert 4 * MIB < max(seen) <= 16 * MIB
        assert client.stats()["staged_bytes"] == 0
        assert_stored(client, "random", sent)


def test_spilled_rows_keep_to_the_limit_of_staging(start_service: StartService, tmp_path: Path) -> None:
    """Rows of many windows that fit neither memory nor the spill's part of staging are written before their time."""
    service = start_service(staging_limit="16MiB", memory_budget="256MiB")
    rows = random_table(2_200_000, step_us=20 * 86_400_000_000 // 2_200_000)  # 20 days, 150 MiB
    mixed = rows.take(pa.array(np.random.default_rng(2).permutation(rows.num_rows)))
    with timestore.connect(service.url) as client:
        client.append("warm", SENT)
        most = 0
        with ThreadPoolExecutor() as pool:
            put = pool.submit(client.append, "mixed", mixed, create={"order": "any"})
            while not put.done():
                most = max(most, client.stats()["staged_bytes"])
        assert 0 < most <= 8 * MIB + (256 * MIB // 2) // 8 + MIB
        assert put.result().files_total > 20
        assert_stored(client, "mixed", rows)


def test_a_store_that_fails_now_and_then(start_distant: StartDistant) -> None:
    """A put whose upload fails is refused as one to be sent again, and a client that does so gets one append."""
    service, store = start_distant()
    store.trouble = trouble = FailsEveryThird()
    with timestore.connect(service.url, retries=False) as client, pytest.raises(RetryableError) as caught:
        client.append("cpu", MANY_DAYS, idempotency_key="a")
    assert caught.value.kind == "storage_unavailable"
    with timestore.connect(service.url, deadline_s=60) as client:
        receipts = [client.append("cpu", SENT, idempotency_key=str(number)) for number in range(6)]

        assert trouble.failures > 2
        assert [receipt.version for receipt in receipts] == [1, 2, 3, 4, 5, 6]
        assert not any(receipt.replayed for receipt in receipts)
        assert len(client.manifest("cpu")) == 6


def test_a_store_that_is_away_for_a_while(start_distant: StartDistant) -> None:
    """Clients that repeat get their receipts once it is back, each append once."""
    service, store = start_distant()
    store.trouble = Away(failures=12)
    with timestore.connect(service.url, deadline_s=60) as client, ThreadPoolExecutor() as pool:
        receipts = list(pool.map(lambda key: client.append("cpu", SENT, idempotency_key=key), "abcd"))

        assert sorted(receipt.version for receipt in receipts) == [1, 2, 3, 4]
        assert sum(item["rows"] for item in client.manifest("cpu")) == 4 * SENT.num_rows


def test_a_hanging_upload_holds_up_nobody(
    start_distant: StartDistant, connections: Connections, tmp_path: Path
) -> None:
    """Its put fails in time, others commit meanwhile; and its bytes, which land when all is over, are swept."""
    service, store = start_distant(upload_timeout_s=2, upload_threads=2)
    store.trouble = hangs = Hangs("put", words="region=eu")
    with timestore.connect(service.url, retries=False) as client, ThreadPoolExecutor() as pool:
        put = pool.submit(client.append, "cpu", SENT, key={"region": "eu"}, idempotency_key="a")
        assert hangs.begun.wait(30)
        for _ in range(3):
            client.append("cpu", SENT, key={"region": "us"})
        assert not put.done()

        with pytest.raises(RetryableError) as caught:
            put.result(timeout=30)
        assert caught.value.kind == "storage_unavailable"
        assert "upload_timeout_s" in caught.value.message
        wait_until(lambda: client.stats()["running_puts"] == 0)
        assert client.stats()["staged_bytes"] == 0
        assert list((tmp_path / "server0" / "staging").glob("*-*")) == []
        assert client.stats()["intents"] == 1  # condemned, and left to the sweeper

        swept = sweep(connections, tmp_path / "data")  # before it lands
        hangs.let_go()
        wait_until(lambda: len(published_files(tmp_path / "data")) == 4)
        a_day_later(connections)
        sweep(connections, tmp_path / "data")

        assert swept == 1
        assert len(published_files(tmp_path / "data")) == len(client.manifest("cpu")) == 3
        assert client.append("cpu", SENT, key={"region": "eu"}, idempotency_key="a").version == 4


def test_what_was_uploaded_for_nothing_is_swept(
    start_distant: StartDistant, connections: Connections, tmp_path: Path
) -> None:
    """A put that is refused after uploads leaves them to the sweeper, and waits for no store to delete anything."""
    service, store = start_distant()
    rows = cpu_table(300_000, step_s=0.1)
    put = RawPut(service.url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    put.send(rows)
    wait_until(lambda: len(published_files(tmp_path / "data")) > 0)
    put.writer.write_batch(rows.to_batches()[0])
    with pytest.raises(TimestoreError, match="timestamp_unordered"):
        put.finish()
    with timestore.connect(service.url, retries=False) as client:
        wait_until(lambda: client.stats()["running_puts"] == 0)

        assert store.calls["delete"] == 0
        assert client.stats()["intents"] > 0
        assert sweep(connections, tmp_path / "data") > 0
        assert published_files(tmp_path / "data") == []
        assert client.stats()["intents"] == 0


def test_a_client_that_goes_away_waits_for_no_upload(start_distant: StartDistant) -> None:
    """The place of its put among the running ones is free again, though the store hangs."""
    service, store = start_distant()
    store.trouble = hangs = Hangs("put")
    descriptor = command(dataset="cpu", idempotency_key="a", end="eof")
    put = RawPut(service.url, descriptor, SENT.schema, timeout_s=1)
    put.send(SENT)
    put.writer.done_writing()
    while put.answer() is not None:
        pass
    with pytest.raises(flight.FlightTimedOutError):  # which cancels the call
        put.writer.close()

    assert hangs.begun.is_set()
    with timestore.connect(service.url) as client:
        wait_until(lambda: client.stats()["running_puts"] == 0)
    hangs.let_go()


def test_a_hanging_upload_does_not_hold_up_the_end_of_the_server(start_distant: StartDistant) -> None:
    """Closing takes no longer than without it, and the put is told to be sent again."""
    service, store = start_distant()
    store.trouble = hangs = Hangs("put")
    with timestore.connect(service.url, retries=False) as client, ThreadPoolExecutor() as pool:
        put = pool.submit(client.append, "cpu", SENT)
        assert hangs.begun.wait(30)
        store.trouble = Hangs("put", "list", "stat", "put_bytes")  # nothing answers any more
        closing = threading.Thread(target=service.close)
        closing.start()
        closing.join(30)

        assert not closing.is_alive()
        with pytest.raises(RetryableError):
            put.result(timeout=30)
    hangs.let_go()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sweep(connections: Connections, storage: Path) -> int:
    """Sweep as a server does that has run for a lease, with leases that are over at once; return what was condemned."""
    return (
        Housekeeping(
            lifecycle=Lifecycle(connections=connections),
            targets=Targets(default=LocalStore(root=storage)),
            history_retention=timedelta(0),
            ticket_lifetime=timedelta(0),
            lease=timedelta(0),
        )
        .sweep()
        .condemned
    )


def a_day_later(connections: Connections) -> None:
    """Move the moment at which swept files are looked at again into the past."""
    with connections.connection() as connection:
        connection.execute(
            f"UPDATE condemned_files SET forget_after = forget_after - interval '{SWEPT_KEPT.days} days'".encode()
        )
