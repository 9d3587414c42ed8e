"""A catalog that is older than its storage is noticed: it serves reads, and neither commits nor deletes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import timestore
from catalog.connections import Connections
from catalog.lifecycle import Lifecycle
from catalog.transfer import export_catalog, import_catalog
from storage.horizon import read_horizon, write_horizon
from storage.local import LocalStore
from storage.targets import Targets
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.restoring import Backup, Restore
from tests.fixtures.server import ServerProcess, StartService, wait_until
from timestore.errors import TimestoreError
from writers.housekeeping import Housekeeping

NOW = timedelta(0)


def _assert_fenced(url: str, *, rows: int) -> None:
    """Reads go on with what the old catalog has; nothing is committed or deleted, and the message says what to do."""
    with timestore.connect(url, retries=False) as client:
        assert client.read("cpu").num_rows == rows
        assert client.health()["status"] == "refusing puts"
        calls: list[Callable[[], object]] = [
            lambda: client.append("cpu", cpu_table(1)),
            lambda: client.create_dataset("new", cpu_table(1).schema),
            lambda: client.drop_dataset("cpu", confirm="cpu"),
            lambda: client.abandon("cpu", "x"),
            client.sweep,
        ]
        for call in calls:
            with pytest.raises(TimestoreError, match="rebuild --adopt") as caught:
                call()
            assert caught.value.kind == "fenced"


def test_a_dump_of_before(start_service: StartService, dump: Backup, restore: Restore, tmp_path: Path) -> None:
    """A dump that was made while the server ran, and restored after it had committed more, is fenced at start."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.append("cpu", cpu_table(10))
        backup = dump()
        client.append("cpu", cpu_table(10, offset=10))
    service.close()
    before = published_files(tmp_path / "data")
    restore(backup)

    restored = start_service()

    _assert_fenced(restored.url, rows=10)
    restored.close()
    assert published_files(tmp_path / "data") == before
    _assert_fenced(start_service().url, rows=10)  # a start and a stop do not help


def test_a_dump_of_now(start_service: StartService, dump: Backup, restore: Restore) -> None:
    """Where nothing was committed after the dump, the restored catalog serves and commits as before."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.append("cpu", cpu_table(10))
    service.close()
    restore(dump())

    with timestore.connect(start_service().url) as client:
        assert client.append("cpu", cpu_table(10, offset=10)).version == 2


def test_a_dump_of_a_moment_ago(
    server_process: Callable[..., ServerProcess], dump: Backup, restore: Restore, postgres_dsn: str, catalog_schema: str
) -> None:
    """What was committed after a dump is noted in storage within seconds, so that a server may be killed then."""
    server = server_process("--catalog-dsn", postgres_dsn, "--catalog-schema", catalog_schema)
    store = LocalStore(root=server.data_dir / "data")
    with timestore.connect(server.url) as client:
        client.append("cpu", cpu_table(10))
        wait_until(lambda: read_horizon(store) > 0)
        backup, noted = dump(), read_horizon(store)
        client.append("cpu", cpu_table(10, offset=10))
    wait_until(lambda: read_horizon(store) > noted, timeout_s=10)
    server.kill()
    restore(backup)

    _assert_fenced(server.start().url, rows=10)


def test_a_dump_that_replaces_a_living_catalog(
    start_service: StartService, dump: Backup, restore: Restore, tmp_path: Path
) -> None:
    """A server whose catalog is replaced by an older one while it runs is fenced within seconds of its next commit."""
    store = LocalStore(root=tmp_path / "data")
    with timestore.connect(start_service().url, retries=False) as client:
        client.append("cpu", cpu_table(10))
        wait_until(lambda: read_horizon(store) > 0)
        backup, noted = dump(), read_horizon(store)
        client.append("cpu", cpu_table(10, offset=10))
        wait_until(lambda: read_horizon(store) > noted, timeout_s=10)
        restore(backup)
        client.append("cpu", cpu_table(10, offset=20))

        wait_until(lambda: client.health()["status"] == "refusing puts", timeout_s=10)


def test_an_archive_of_before(
    start_service: StartService, postgres_dsn: str, catalog_schema: str, tmp_path: Path
) -> None:
    """An archive of a catalog that went on is fenced; one of its latest state is not."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.append("cpu", cpu_table(10))
    service.close()
    export_catalog(postgres_dsn, catalog_schema, tmp_path / "old.zip")
    service = start_service()
    with timestore.connect(service.url) as client:
        client.append("cpu", cpu_table(10, offset=10))
    service.close()
    export_catalog(postgres_dsn, catalog_schema, tmp_path / "new.zip")
    for name in ("old", "new"):
        import_catalog(postgres_dsn, f"{catalog_schema}_{name}", tmp_path / f"{name}.zip")

    _assert_fenced(start_service(catalog_schema=f"{catalog_schema}_old").url, rows=10)
    with timestore.connect(start_service(catalog_schema=f"{catalog_schema}_new").url) as client:
        assert client.append("cpu", cpu_table(10, offset=20)).version == 3


def test_a_copy_of_the_postgres_directory(server_process: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """An older copy of the embedded Postgres beside the living storage is fenced, even if the newer one was killed."""
    server = server_process()
    with timestore.connect(server.url) as client:
        client.append("cpu", cpu_table(10))
    assert server.terminate() == 0
    postgres, copy = server.data_dir / "postgres", tmp_path / "postgres-copy"
    shutil.copytree(postgres, copy)
    store = LocalStore(root=server.data_dir / "data")
    noted = read_horizon(store)
    server.start()
    with timestore.connect(server.url) as client:
        client.append("cpu", cpu_table(10, offset=10))
    wait_until(lambda: read_horizon(store) > noted, timeout_s=10)
    server.kill()
    wait_until(lambda: not (postgres / "cluster" / "postmaster.pid").exists())  # Postgres ends by itself then
    shutil.rmtree(postgres)
    shutil.copytree(copy, postgres)

    _assert_fenced(server.start().url, rows=10)


@pytest.mark.parametrize("what", ["append", "create", "drop", "abandon"])
def test_whatever_was_committed_counts(what: str, connections: Connections, start_service: StartService) -> None:
    """Every kind of commit raises the horizon, once; without any it stays."""
    with timestore.connect(start_service().url) as client:
        client.append("cpu", cpu_table(10))
        lifecycle = Lifecycle(connections=connections)
        before = lifecycle.raise_horizon()
        assert lifecycle.raise_horizon() == before
        calls: dict[str, Callable[[], object]] = {
            "append": lambda: client.append("cpu", cpu_table(10)),
            "create": lambda: client.create_dataset("new", cpu_table(1).schema),
            "drop": lambda: client.drop_dataset("cpu", confirm="cpu"),
            "abandon": lambda: client.abandon("cpu", "x"),
        }
        calls[what]()

        assert lifecycle.raise_horizon() == before + 1
        assert lifecycle.raise_horizon() == before + 1


def test_the_catalog_counts_first(connections: Connections, tmp_path: Path) -> None:
    """A crash between catalog and storage leaves the catalog ahead; the next round writes what is missing."""
    lifecycle, store = Lifecycle(connections=connections), LocalStore(root=tmp_path)
    assert lifecycle.raise_horizon() == 1  # and the server dies here
    assert read_horizon(store) == 0

    _housekeeping(lifecycle, store).note_horizon()

    assert read_horizon(store) == 1


def test_a_running_server_stops_deleting(connections: Connections, tmp_path: Path) -> None:
    """A server whose catalog falls behind its storage while it runs deletes nothing, and never catches up."""
    lifecycle, store = Lifecycle(connections=connections), LocalStore(root=tmp_path)
    write_horizon(store, 5)

    for _ in range(2):
        with pytest.raises(TimestoreError) as caught:
            _housekeeping(lifecycle, store).run()
        assert caught.value.kind == "fenced"

    assert (lifecycle.horizon(), read_horizon(store)) == (0, 5)


def _housekeeping(lifecycle: Lifecycle, store: LocalStore) -> Housekeeping:
    return Housekeeping(
        lifecycle=lifecycle, targets=Targets(default=store), history_retention=NOW, ticket_lifetime=NOW, lease=NOW
    )


class _Full(LocalStore):
    def put_bytes(self, content: bytes, path: str) -> bool:
        raise TimestoreError("disk_full", "the storage's disk is full")


def test_a_running_server_takes_no_puts_any_more(client: timestore.Client, tmp_path: Path) -> None:
    """A server whose catalog became older while it ran notices it in its next round, and from then on only reads."""
    client.append("cpu", cpu_table(10))
    write_horizon(LocalStore(root=tmp_path / "data"), 1_000_000)

    for attempt in (client.sweep, lambda: client.append("cpu", cpu_table(10, offset=10))):
        with pytest.raises(TimestoreError) as caught:
            attempt()
        assert (caught.value.kind, "older" in caught.value.message) == ("fenced", True)
    assert client.health()["status"] == "refusing puts"
    assert client.read("cpu").num_rows == 10


def test_a_full_disk_keeps_nothing_from_being_deleted(connections: Connections, tmp_path: Path) -> None:
    """Where the horizon cannot be written, what is condemned still goes; the number is written once there is room."""
    lifecycle, store = Lifecycle(connections=connections), LocalStore(root=tmp_path)
    (tmp_path / "old.duckdb").write_bytes(b"rows")
    with connections.connection() as connection:
        connection.execute(
            "INSERT INTO condemned_files (holder_id, storage, path) VALUES (gen_random_uuid(), 'default', 'old.duckdb')"
        )

    with pytest.raises(TimestoreError, match="disk is full"):
        _housekeeping(lifecycle, _Full(root=tmp_path)).run()
    assert not (tmp_path / "old.duckdb").exists()
    _housekeeping(lifecycle, store).run()

    assert read_horizon(store) == lifecycle.horizon() == 1


def test_one_object_is_left(tmp_path: Path) -> None:
    """Smaller numbers are deleted; whichever came last, the greatest counts, also beyond nine."""
    store = LocalStore(root=tmp_path)
    for number in (8, 9, 10, 9):
        write_horizon(store, number)
    assert read_horizon(store) == 10
    write_horizon(store, 11)
    assert [each.path for each in store.list()] == ["timestore.horizon/00000000000000000011"]


def test_an_older_server_goes_on(postgres_dsn: str, catalog_schema: str, connections: Connections) -> None:
    """Servers that do not know the horizon commit beside those that do."""
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(catalog_schema)))
        connection.execute("SELECT check_server(5)")
    assert Lifecycle(connections=connections).horizon() == 0
