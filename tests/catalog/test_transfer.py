"""A catalog moves to another Postgres whole: what it said it still says, and its files are still its own."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import timestore
from catalog.transfer import export_catalog, import_catalog
from tests.fixtures.data import cpu_table
from tests.fixtures.server import StartService
from timestore.errors import TimestoreError


@pytest.fixture(name="other_dsn")
def _other_dsn(postgres_dsn: str) -> Iterator[str]:
    """An empty database beside the one that has the catalog."""
    name = f"other_{datetime.now(UTC):%H%M%S%f}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name))
        )
        yield make_conninfo(postgres_dsn, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(name="archive")
def _archive(start_service: StartService, postgres_dsn: str, catalog_schema: str, tmp_path: Path) -> Path:
    """The archive of a catalog with two datasets, one of which has evolved."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.append("cpu", cpu_table(100), key={"region": "eu"}, idempotency_key="a")
        client.append("cpu", cpu_table(100, offset=100).drop(["up"]), key={"region": "us"}, idempotency_key="b")
        client.append("other", cpu_table(10), create={"window": "1h"})
    service.close()
    archive = tmp_path / "catalog.zip"
    export_catalog(postgres_dsn, catalog_schema, archive)
    return archive


def test_everything_moves(archive: Path, other_dsn: str, start_service: StartService) -> None:
    """Rows, versions, receipts and history are the same on the new Postgres; puts go on from there."""
    facts = import_catalog(other_dsn, "moved", archive)
    assert facts.tables["datasets"] == 2

    with timestore.connect(start_service(catalog_dsn=other_dsn, catalog_schema="moved").url) as client:
        assert client.read("cpu").num_rows == 200
        assert client.read("cpu", version=1).equals(cpu_table(100))
        assert client.receipt("cpu", "a").version == 1
        again = client.append("cpu", cpu_table(100), key={"region": "eu"}, idempotency_key="a")
        assert (again.version, again.replayed) == (1, True)
        assert client.append("cpu", cpu_table(10, offset=300), key={"region": "eu"}).version == 3
        assert client.append("new", cpu_table(10)).version == 1


def test_running_servers_are_not_left_behind(
    start_service: StartService, postgres_dsn: str, catalog_schema: str, tmp_path: Path
) -> None:
    """A catalog that servers run on is not exported: what they commit afterwards would be missing."""
    start_service()

    with pytest.raises(TimestoreError, match="stop them first"):
        export_catalog(postgres_dsn, catalog_schema, tmp_path / "catalog.zip")

    assert list(tmp_path.glob("catalog.zip*")) == []


def test_a_catalog_is_not_written_over(archive: Path, postgres_dsn: str, catalog_schema: str) -> None:
    """Neither an existing file nor an existing catalog is touched."""
    before = archive.read_bytes()
    with pytest.raises(FileExistsError):
        export_catalog(postgres_dsn, catalog_schema, archive)
    assert archive.read_bytes() == before

    with pytest.raises(TimestoreError, match="has a catalog already"):
        import_catalog(postgres_dsn, catalog_schema, archive)


def test_without_a_catalog(other_dsn: str, tmp_path: Path) -> None:
    """Where there is no catalog, the message says so."""
    with pytest.raises(TimestoreError, match="there is no catalog"):
        export_catalog(other_dsn, "timestore", tmp_path / "catalog.zip")


def _rewritten(archive: Path, change: Callable[[str, bytes], bytes]) -> Path:
    damaged = archive.with_name("damaged.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(damaged, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return damaged


def _with_facts(archive: Path, **changes: object) -> Path:
    def change(name: str, content: bytes) -> bytes:
        return json.dumps(json.loads(content) | changes).encode() if name == "catalog.json" else content

    return _rewritten(archive, change)


@pytest.mark.parametrize("changes", [{"format": 2}, {"migration": 9999}])
def test_newer_archives_are_refused(archive: Path, other_dsn: str, changes: dict[str, object]) -> None:
    """An archive of a newer version is refused before anything is created."""
    with pytest.raises(TimestoreError, match="newer version"):
        import_catalog(other_dsn, "moved", _with_facts(archive, **changes))


def test_half_an_archive_leaves_nothing(archive: Path, other_dsn: str) -> None:
    """A damaged archive is refused, and the same import works afterwards with a good one."""
    lossy = _rewritten(archive, lambda name, content: b"" if name == "tables/slices" else content)
    cut = archive.with_name("cut.zip")
    cut.write_bytes(archive.read_bytes()[:-100])
    for damaged in (lossy, cut, _with_facts(archive, tables=[])):
        with pytest.raises(TimestoreError, match="damaged"):
            import_catalog(other_dsn, "moved", damaged)

    assert import_catalog(other_dsn, "moved", archive).tables["slices"] > 0
