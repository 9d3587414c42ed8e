"""Two servers, one Postgres, one bucket: the promise holds across both, and whatever one leaves the other sweeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

import timestore
from catalog.lifecycle import SWEPT_KEPT
from storage.opening import open_store
from tests.fixtures.data import START
from tests.fixtures.object_stores import ObjectServer, TestBucket, environment_of, s3_client
from tests.fixtures.proxy import TcpProxy
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import ServerProcess, wait_until
from timestore.errors import ConflictError, TimestoreError

LEASE_S = 5
ROWS = 1_000_000


def sent_rows(seed: int = 1) -> pa.Table:
    """Ordered rows that nothing can compress, in two days: each file goes up in several parts."""
    random = np.random.default_rng(seed)
    stamps = pa.array(START + np.arange(ROWS, dtype=np.int64) * 172_800, pa.timestamp("us", "UTC"))
    return pa.table({"ts": stamps, **{f"v{number}": random.random(ROWS) for number in range(6)}})


class Network(TcpProxy):
    """What is between a server and the bucket; told so, it falls silent in the middle of an upload."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.stops_in_an_upload = False
        self.has_stopped = threading.Event()

    def _count(self, data: bytes) -> None:
        if self.stops_in_an_upload and b"partNumber=2" in data:
            self.fall_silent()
            self.has_stopped.set()


class Cluster:
    """Servers on one catalog and one bucket, each with a network of its own to the bucket."""

    def __init__(self, bucket: TestBucket, dsn: str, schema: str, directory: Path) -> None:
        self._bucket = bucket
        self._dsn = dsn
        self._schema = schema
        self._directory = directory
        self.servers: list[ServerProcess] = []
        self.networks: list[Network] = []
        self.store = open_store(bucket.url)

    def start(self) -> ServerProcess:
        """Start another server."""
        network = Network(self._bucket.server.port)
        name = f"server{len(self.servers)}"
        arguments = ("--catalog-dsn", self._dsn, "--catalog-schema", self._schema, "--storage-url", self._bucket.url)
        server = ServerProcess(
            self._directory / name,
            *arguments,
            *("--lease-s", str(LEASE_S), "--memory-budget", "256MiB"),
            log=self._directory / f"{name}.log",
            environment=environment_of(self._bucket.server.behind(network.port)),
        ).start()
        self.servers.append(server)
        self.networks.append(network)
        return server

    def stop(self) -> None:
        """Kill everything."""
        for server in self.servers:
            server.stop()
        for network in self.networks:
            network.close()

    def objects(self) -> set[str]:
        """All data files in the bucket."""
        return {each.path for each in self.store.list() if each.path.endswith(".duckdb")}

    def unfinished(self) -> list[str]:
        """Uploads of which parts were sent, and no more."""
        answer = s3_client(self._bucket.server.port).list_multipart_uploads(Bucket=self._bucket.name)
        return [each["Key"] for each in answer.get("Uploads", [])]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask or change the catalog by hand."""
        with psycopg.connect(self._dsn) as connection:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema)))
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(name="cluster")
def _cluster(
    seaweed: ObjectServer,
    make_bucket: Callable[[ObjectServer], TestBucket],
    postgres_dsn: str,
    catalog_schema: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    bucket = make_bucket(seaweed)
    for name, value in environment_of(seaweed).items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(bucket, postgres_dsn, catalog_schema, tmp_path)
    yield cluster
    cluster.stop()


def test_one_key_on_two_servers_is_one_append(cluster: Cluster) -> None:
    """Puts to both with one idempotency key get one receipt; whoever loses leaves nothing that is listed."""
    urls = [cluster.start().url for _ in range(2)]
    sent = sent_rows()
    together = threading.Barrier(2)

    def put(url: str) -> timestore.Receipt:
        with timestore.connect(url, deadline_s=60) as client:
            together.wait(30)
            return client.append("cpu", sent, idempotency_key="a")

    with ThreadPoolExecutor() as pool:
        one, other = pool.map(put, urls)

    assert one.append_id == other.append_id
    assert {one.replayed, other.replayed} == {True, False}
    with timestore.connect(urls[0]) as client:
        assert [entry["version"] for entry in client.history("cpu")] == [1]
        assert sum(item["rows"] for item in client.manifest("cpu")) == ROWS
        with pytest.raises(ConflictError):
            client.append("cpu", sent_rows(2), idempotency_key="a")


@pytest.mark.timeout(240)
def test_a_server_killed_in_mid_upload_leaves_nothing(cluster: Cluster) -> None:
    """Objects, parts of objects and intents that it left are swept by the other; the retry there makes the append."""
    dying, living = cluster.start(), cluster.start()
    sent = sent_rows()
    put = RawPut(dying.url, command(dataset="cpu", idempotency_key="a"), sent.schema)
    put.send(sent.slice(0, ROWS // 2))
    wait_until(lambda: bool(cluster.objects()))
    cluster.networks[0].stops_in_an_upload = True
    put.send(sent.slice(ROWS // 2))
    assert cluster.networks[0].has_stopped.wait(30)
    dying.kill()

    assert cluster.objects()
    assert cluster.unfinished()
    assert cluster.ask("SELECT count(*) FROM intents")[0][0] >= 2
    with timestore.connect(living.url, deadline_s=60) as client:
        receipt = client.append("cpu", sent, idempotency_key="a")
        wait_until(lambda: client.sweep()["condemned"] >= 2, timeout_s=60)  # when the lease is over

        assert not receipt.replayed
        assert cluster.ask("SELECT count(*) FROM intents") == [(0,)]
        assert cluster.unfinished() == []
        assert {item["uri"].removeprefix(cluster.store.url("")) for item in client.manifest("cpu")} == cluster.objects()
    cluster.ask(f"UPDATE condemned_files SET forget_after = forget_after - interval '{SWEPT_KEPT.days} days'")
    with timestore.connect(living.url) as client:
        assert client.sweep()["deleted"] >= 2
    assert cluster.ask("SELECT count(*) FROM condemned_files") == [(0,)]


def test_a_network_cut_in_the_middle_of_an_upload(cluster: Cluster) -> None:
    """Parts whose connection breaks are sent again: the put takes a little longer, and stores what was sent."""
    server = cluster.start()
    network = cluster.networks[0]
    with timestore.connect(server.url, retries=False) as client:
        network.cut_once(b"partNumber=2", answer=False)
        receipt = client.append("cpu", sent_rows(), idempotency_key="a")

        assert network.cuts == 1
        assert {item["uri"].removeprefix(cluster.store.url("")) for item in client.manifest("cpu")} == cluster.objects()
        assert sum(file.rows for file in receipt.files) == ROWS
        assert cluster.unfinished() == []


def test_a_put_that_fails_half_way_is_swept(cluster: Cluster) -> None:
    """Of a put that is refused when parts of it are up, nothing is left once the sweeper has looked twice."""
    server = cluster.start()
    sent = sent_rows()
    put = RawPut(server.url, command(dataset="cpu", idempotency_key="a"), sent.schema)
    put.send(sent.slice(0, ROWS - 1))
    wait_until(lambda: bool(cluster.objects()))
    put.writer.write_batch(sent.slice(0, 1).to_batches()[0])  # out of order
    with pytest.raises(TimestoreError, match="timestamp_unordered"):
        put.finish()

    assert cluster.ask("SELECT count(*) FROM intents WHERE condemned_at IS NOT NULL")[0][0] >= 1
    with timestore.connect(server.url) as client:

        def swept() -> bool:
            client.sweep()
            return not cluster.objects() and cluster.ask("SELECT count(*) FROM intents") == [(0,)]

        wait_until(swept, timeout_s=60)
    assert cluster.unfinished() == []
