"""A resource that runs out fails puts with a clear, retryable error, leaves nothing half done, and may come back."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import timestore
from catalog.embedded import EmbeddedPostgres
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.server import ServerProcess, StartService, same_user_environment, wait_until
from tests.fixtures.small_disk import SmallDisk, on_small_disk
from timestore.errors import RetryableError

StartProcess = Callable[..., ServerProcess]
SMALL = cpu_table(1_000)
LARGE = cpu_table(300_000, step_s=1)  # files before the end of the stream, and some megabytes of them
MANY_WINDOWS = cpu_table(250, step_s=86_400)


class Shop:
    """A client of one server, and what the server must look like before, during and after."""

    def __init__(self, url: str, storage: Path) -> None:
        self.client = timestore.connect(url)
        self._storage = storage
        self.client.append("small", SMALL, idempotency_key="before")

    def refuses(self, kind: str, *said: str, sent: Any = LARGE, dataset: str = "large", key: str = "during") -> None:
        """Check that a put is refused retryably, with words that say what to do, and stored nothing."""
        with pytest.raises(RetryableError) as caught:
            self.client.append(dataset, sent, idempotency_key=key)
        assert caught.value.kind == kind
        for words in said:
            assert words in caught.value.message

    def is_calm(self, *, intents: int = 0) -> None:
        """Check that old rows can be read, and that nothing is left of what was refused."""
        assert self.client.read("small", version=1).equals(SMALL)
        wait_until(lambda: self.client.stats()["running_puts"] == 0)
        stats = self.client.stats()
        assert (stats["buffered_bytes"], stats["intents"]) == (0, intents)
        listed = {item["id"] for each in self.client.datasets() for item in self.client.manifest(each["dataset"])}
        assert {path.stem for path in published_files(self._storage)} == listed

    def is_back(self) -> None:
        """Check that what was refused is taken now, by the same keys."""
        wait_until(self._append_again)
        assert self.client.read("large").equals(LARGE)
        assert self.client.append("large", LARGE, idempotency_key="during").replayed

    def _append_again(self) -> bool:
        try:
            receipt = self.client.append("large", LARGE, idempotency_key="during")
        except RetryableError:
            return False
        return bool(receipt.rows == LARGE.num_rows)


@contextmanager
def _limited(pid: int, what: int, soft: int) -> Iterator[None]:
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def test_staging_is_full(server_process: StartProcess, tmp_path: Path) -> None:
    """A full staging disk: `disk_full`, no half-written file; puts go on as soon as there is room."""
    staging = tmp_path / "process" / "staging"
    server = server_process(within=on_small_disk(staging, "64m"))
    disk = SmallDisk(server.pid, staging)
    shop = Shop(server.url, tmp_path / "process" / "data")

    with disk.full():
        shop.refuses("disk_full", "staging", "free space")
        shop.refuses("disk_full", "staging", sent=SMALL, dataset="small")
        shop.is_calm()
        assert [path.name for path in disk.path.iterdir()] == ["filler"]

    shop.is_back()


@pytest.mark.parametrize("how", ["full", "read only"])
def test_storage_does_not_take_files(server_process: StartProcess, tmp_path: Path, how: str) -> None:
    """A storage that is full or read only: the error says which, reads go on, and so do puts when it is back."""
    storage = tmp_path / "storage"
    server = server_process("--storage-url", str(storage), within=on_small_disk(storage, "64m"))
    disk = SmallDisk(server.pid, storage)
    shop = Shop(server.url, disk.path)

    with disk.full() if how == "full" else disk.read_only():
        said = (
            ("disk_full", "storage", "free space")
            if how == "full"
            else ("storage_unavailable", "Read-only", "writable")
        )
        shop.refuses(*said)
        # What cannot be deleted keeps its intent: that nothing was written there, nobody can make sure now.
        shop.is_calm(intents=0 if how == "full" else shop.client.stats()["intents"])

    shop.is_back()


def test_catalog_is_full(server_process: StartProcess, tmp_path: Path) -> None:
    """A full disk under Postgres: `disk_full`; once Postgres gives up, `catalog_unavailable`; it heals by itself."""
    directory = tmp_path / "process" / "postgres"
    server = server_process(within=on_small_disk(directory, "200m"))
    disk = SmallDisk(server.pid, directory)
    shop = Shop(server.url, tmp_path / "process" / "data")
    password = (disk.path / "passfile").read_text().strip().rsplit(":", 1)[1]
    [port] = [word for word in _facts(server)["join"].split() if word.startswith("port=")]
    dsn = make_conninfo(host="127.0.0.1", port=port[5:], user="timestore", dbname="timestore", password=password)

    with disk.full():
        shop.refuses("disk_full", "catalog's disk", sent=MANY_WINDOWS, dataset="windows")
        shop.is_calm()
        with psycopg.connect(dsn, autocommit=True) as connection, pytest.raises(psycopg.Error):
            _use_up_the_log(connection)  # ends with a Postgres that cannot go on
        shop.refuses("catalog_unavailable", "same idempotency key", sent=SMALL, dataset="small")

    shop.is_back()
    shop.is_calm()


def _use_up_the_log(connection: psycopg.Connection[Any]) -> None:
    for _ in range(30):
        connection.execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000))")
        connection.execute("SELECT pg_switch_wal()")


def test_files_may_not_be_large(server_process: StartProcess, tmp_path: Path) -> None:
    """A limit of file sizes: `disk_full`, which says so; nothing stays; puts go on when it is raised."""
    server = server_process()
    shop = Shop(server.url, tmp_path / "process" / "data")

    with _limited(server.pid, resource.RLIMIT_FSIZE, 100_000):
        shop.refuses("disk_full", "ulimit -f")
        shop.is_calm()
        assert list((tmp_path / "process" / "staging").iterdir()) == []

    shop.is_back()


def test_too_many_open_files(server_process: StartProcess, tmp_path: Path) -> None:
    """Without spare file descriptors puts are refused as `overloaded`, before DuckDB would end the process for it."""
    server = server_process()
    shop = Shop(server.url, tmp_path / "process" / "data")
    process = psutil.Process(server.pid)

    with _limited(server.pid, resource.RLIMIT_NOFILE, process.num_fds() + 20):
        shop.refuses("overloaded", "ulimit -n")
        with pytest.raises(RetryableError) as caught:
            shop.client.read("small")
        assert caught.value.kind == "overloaded"

    shop.is_calm()
    shop.is_back()


def test_connections_up_to_the_limit(server_process: StartProcess, tmp_path: Path) -> None:
    """More connections than the process may have do not end it: puts are refused until the others have gone."""
    server = server_process()
    shop = Shop(server.url, tmp_path / "process" / "data")
    process = psutil.Process(server.pid)
    port = int(server.url.rsplit(":", 1)[1])

    with _limited(server.pid, resource.RLIMIT_NOFILE, 300):
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(400)]
        wait_until(lambda: process.num_fds() >= 290)
        shop.refuses("overloaded", "300")
        for each in crowd:
            each.close()
        wait_until(lambda: process.num_fds() < 100)
        shop.is_calm()
        shop.is_back()


def test_too_few_files_from_the_start(tmp_path: Path) -> None:
    """A process that may open next to nothing does not start, and says what it needs."""
    limit = "import resource, os, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
    script = f"{limit}os.execv(sys.argv[1], sys.argv[1:])"
    serve = [sys.executable, "-m", "timestore_app", "serve", "--data-dir", str(tmp_path / "d"), "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-c", script, *serve],
        env=same_user_environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert "may open 100 files, at least 256 are needed" in done.stderr
    assert "Traceback" not in done.stderr


def test_logs_have_no_room(server_process: StartProcess, tmp_path: Path) -> None:
    """A full disk under the log loses lines, and nothing else."""
    logs = tmp_path / "logs"
    redirected = ["sh", "-c", f'exec "$@" >{logs}/log 2>&1', "sh"]
    server = server_process(within=[*on_small_disk(logs, "1m"), *redirected])
    disk = SmallDisk(server.pid, logs)
    shop = Shop(server.url, tmp_path / "process" / "data")

    with disk.full():
        shop.is_back()
        shop.is_calm()

    assert server.terminate() == 0


@pytest.fixture(name="own_postgres")
def _own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres for one test, that it may stop."""
    postgres = EmbeddedPostgres(directory=tmp_path / "own-postgres")
    postgres.start()
    yield postgres
    postgres.stop()


def test_catalog_is_away_for_a_while(
    own_postgres: EmbeddedPostgres, start_service: StartService, tmp_path: Path
) -> None:
    """Without Postgres, puts wait a bounded time and fail retryably; when it is back, so is the server, by itself."""
    service = start_service(catalog_dsn=own_postgres.private_dsn)
    shop = Shop(service.url, tmp_path / "data")
    own_postgres.stop()
    shop.refuses("catalog_unavailable", "same idempotency key")
    assert shop.client.health()["catalog"] == "catalog_unavailable"

    own_postgres.start()
    shop.is_back()
    shop.is_calm()


def test_catalog_is_silent_for_a_while(server_process: StartProcess, tmp_path: Path) -> None:
    """A Postgres that is there and answers nothing holds up puts no longer than one that is away."""
    server = server_process()
    shop = Shop(server.url, tmp_path / "process" / "data")
    postgres = server.postgres()
    stopped = [postgres, *postgres.children(recursive=True)]
    for process in stopped:
        process.suspend()
    try:
        shop.refuses("catalog_unavailable", "same idempotency key")
    finally:
        for process in stopped:
            process.resume()

    shop.is_back()
    shop.is_calm()


def _facts(server: ServerProcess) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((server.data_dir / "server.json").read_text())
    return facts
