"""Reads, SQL, fsck and rebuild where the storage is on another machine: the same answers, and few files fetched."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pytest

import timestore
from storage import read_cache
from tests.fixtures.command_line import run_here
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.remote_store import RemoteStore
from tests.fixtures.server import StartService
from timestore.client import Client
from timestore.errors import InvalidInputError, RetryableError
from timestore_app.service import Service

DAYS = 4
EU = cpu_table(DAYS * 2_000, step_s=43.2)
US = cpu_table(1_000, step_s=43.2, seed=2)  # half of the first day
FILES = DAYS + 1


@pytest.fixture(name="remote")
def _remote(start_remote: StartService) -> Service:
    return start_remote()


@pytest.fixture(name="client")
def _client(remote: Service, remote_store: RemoteStore) -> Iterator[Client]:
    """A client of a server with five files, none of which has been read."""
    with timestore.connect(remote.url, retries=False) as client:
        client.append("cpu", EU, key={"region": "eu"})
        client.append("cpu", US, key={"region": "us"})
        remote_store.fetched()
        yield client


def _count(client: Client, where: str) -> int:
    [row] = client.sql(f"SELECT count(*) AS n FROM cpu {where}").to_pylist()
    return int(row["n"])


def test_reads_fetch_what_they_need_once(client: Client, remote_store: RemoteStore) -> None:
    """A read has the rows that were sent; it fetches the files of its key and time range, and no file twice."""
    assert client.read("cpu", key={"region": "us"}).equals(US)
    assert remote_store.fetched() == 1
    day = client.read(
        "cpu",
        key={"region": "eu"},
        start=datetime(2026, 1, 2, tzinfo=UTC),
        end=datetime(2026, 1, 3, tzinfo=UTC),
        columns=["usage"],
    )
    assert day.equals(EU.select(["usage"]).slice(2_000, 2_000))
    assert remote_store.fetched() == 1
    with ThreadPoolExecutor(6) as pool:
        for table in pool.map(lambda _: client.read("cpu", key={"region": "eu"}), range(6)):
            assert table.equals(EU)
    assert remote_store.fetched() == DAYS - 1


def test_a_cache_smaller_than_a_file(start_remote: StartService, client: Client, remote_store: RemoteStore) -> None:
    """With hardly any cache reads are as right, and several at once."""
    small = start_remote(read_cache="1B")
    with timestore.connect(small.url) as reader, ThreadPoolExecutor(3) as pool:
        for table in pool.map(lambda _: reader.read("cpu", key={"region": "eu"}), range(3)):
            assert table.equals(EU)
    assert remote_store.fetched() >= DAYS


def test_what_is_wrong_in_storage(client: Client, remote_store: RemoteStore, tmp_path: Path) -> None:
    """A store that fails, a damaged file and a missing one are ``storage_unavailable``, for reads and for SQL; what is
    mended is read.
    """
    [path] = (tmp_path / "data").rglob("region=us/*/*.duckdb")
    content = path.read_bytes()

    def refused(match: str) -> None:
        for ask in (lambda: client.read("cpu", key={"region": "us"}), lambda: _count(client, "WHERE region = 'us'")):
            with pytest.raises(RetryableError, match=match) as caught:
                ask()
            assert caught.value.kind == "storage_unavailable"

    remote_store.spoil = lambda content: content[: len(content) // 2]
    refused("damaged")
    remote_store.mend()
    path.unlink()
    refused("not in storage")
    path.write_bytes(content)
    assert client.read("cpu", key={"region": "us"}).equals(US)


def test_sql_fetches_what_it_needs(client: Client, remote_store: RemoteStore) -> None:
    """A query has its right result, without the files that its keys and times exclude."""
    for where, rows, fetched in (
        ("WHERE false", 0, 0),
        ("WHERE region = 'us'", len(US), 1),
        ("WHERE ts >= '2026-01-03' AND ts < now()", len(EU) // 2, 2),
        ("", len(EU) + len(US), FILES - 3),  # what is there by now is not fetched again
    ):
        assert _count(client, where) == rows
        assert remote_store.fetched() == fetched


def test_parameters_narrow_too(remote: Service, client: Client, remote_store: RemoteStore) -> None:
    """A query of Flight SQL fetches no files that its parameters exclude, and none to be planned."""
    del client  # it has put the rows
    with (
        flight_sql.connect(remote.url.replace("grpc://", "grpc+tcp://"), autocommit=True) as adbc,
        adbc.cursor() as cursor,
    ):
        cursor.adbc_prepare("SELECT count(*) AS n FROM cpu WHERE region = ?")
        assert remote_store.fetched() == 0
        cursor.execute("SELECT count(*) AS n FROM cpu WHERE region = ?", ("us",))
        assert cursor.fetchall() == [(len(US),)]
    assert remote_store.fetched() == 1


def test_sql_that_needs_more_than_the_cache(start_remote: StartService, client: Client, tmp_path: Path) -> None:
    """A query for more than the cache holds is refused, and told what to do; one for a single file never is."""
    largest = max(path.stat().st_size for path in published_files(tmp_path / "data"))
    small = start_remote(read_cache=largest + 10)
    with timestore.connect(small.url) as reader:
        with pytest.raises(InvalidInputError, match="raise read_cache") as caught:
            _count(reader, "WHERE region = 'eu'")
        assert caught.value.kind == "query_too_expensive"
        assert _count(reader, "WHERE region = 'us'") == len(US)


def test_a_fetch_longer_than_a_query_may_take(client: Client, remote_store: RemoteStore) -> None:
    """A store that answers too late ends the query at its deadline; what it brings later is there for the next one."""
    late = threading.Event()
    remote_store.on_open = lambda path: path.endswith(".duckdb") and late.wait(timeout=30)
    with pytest.raises(InvalidInputError, match="took longer than 1 s"):
        client.sql("SELECT count(*) FROM cpu WHERE region = 'us'", timeout_s=1)
    late.set()
    assert _count(client, "WHERE region = 'us'") == len(US)
    assert remote_store.fetched() == 1


def test_files_of_a_running_query_stay(
    start_remote: StartService, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a query's process runs nobody takes its files away, however much others need the room."""
    bytes_ = sorted(path.stat().st_size for path in (tmp_path / "data").rglob("region=eu/*/*.duckdb"))
    server = start_remote(read_cache=sum(bytes_))
    monkeypatch.setattr(read_cache, "ROOM_TIMEOUT_S", 0.1)
    cache = tmp_path / "server1" / "cache"
    with timestore.connect(server.url, retries=False) as reader:
        rows = reader.sql_batches(
            "SELECT a.usage FROM cpu a, cpu b WHERE a.region = 'eu' AND b.region = 'eu' LIMIT 9000000"
        )
        first = rows.read_next_batch()
        files = set(cache.iterdir())
        assert len(files) == DAYS
        with pytest.raises(RetryableError, match="do not fit"):
            reader.read("cpu", key={"region": "us"})
        assert set(cache.iterdir()) == files
        assert first.num_rows + sum(batch.num_rows for batch in rows) == 9_000_000
        assert reader.read("cpu", key={"region": "us"}).equals(US)


def test_sql_sees_no_other_files(client: Client, tmp_path: Path) -> None:
    """A query reads no file of the server, not even what the cache has of datasets that it does not name."""
    client.append("mem", US)
    client.read("mem")
    [other] = (tmp_path / "server0" / "cache").iterdir()
    for path in ("/etc/passwd", other):
        with pytest.raises(InvalidInputError, match="file system operations are disabled"):
            client.sql(f"SELECT count(*) FROM cpu, read_blob('{path}')")


def test_nothing_is_cached_of_a_local_storage(service: Service, tmp_path: Path) -> None:
    """Where the storage is on this machine, reads leave nothing in the data directory."""
    with timestore.connect(service.url) as client:
        client.append("cpu", US)
        assert client.read("cpu").equals(US)
        assert client.sql("FROM cpu").num_rows == len(US)
    assert not (tmp_path / "server0" / "cache").exists()


def _run(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = run_here(*arguments, "--json")
    assert result.exit_code == code, result.output
    [line] = [line for line in result.stdout.splitlines() if line.startswith("{")]  # servers log here, too
    document: dict[str, Any] = json.loads(line)
    return document


@pytest.mark.usefixtures("client")
def test_fsck_and_rebuild(
    start_remote: StartService, remote_store: RemoteStore, postgres_dsn: str, catalog_schema: str, tmp_path: Path
) -> None:
    """Commands fetch what they look into: fsck finds what is damaged, rebuild takes in all rows; a storage that fails
    ends them, and counts for no damage.
    """
    catalog = ("--catalog-dsn", postgres_dsn, "--catalog-schema")
    assert _run("fsck", "--deep", *catalog, catalog_schema)["findings"] == []
    assert remote_store.fetched() == FILES

    new = f"{catalog_schema}_new"
    remote_store.on_open = _fail_at_files
    for command in (("fsck", "--deep", *catalog, catalog_schema), ("rebuild", *catalog, new)):
        failed = run_here(*command)
        assert failed.exit_code == 1
        assert "fetching the data file" in failed.output
    remote_store.mend()
    document = _run("rebuild", "--adopt", *catalog, new)
    assert (document["left"], document["datasets"][0]["files"]) == ([], FILES)
    with timestore.connect(start_remote(catalog_schema=new).url) as client:
        assert client.read("cpu", key={"region": "eu"}).equals(EU)

    [path] = (tmp_path / "data").rglob("region=us/*/*.duckdb")
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    [finding] = _run("fsck", "--deep", *catalog, new, code=1)["findings"]
    assert finding["kind"] == "checksum"


def _fail_at_files(path: str) -> None:
    if path.endswith(".duckdb"):
        raise ConnectionResetError("no network")
