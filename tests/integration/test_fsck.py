"""``timestore fsck``: whatever is wrong between catalog and storage is found, and what is right is not."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import xxhash

import timestore
from catalog.connections import Connections
from tests.fixtures.command_line import run_process
from tests.fixtures.data import cpu_table
from tests.fixtures.files import manifest_paths, published_files
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import ServerProcess, StartService, wait_until

SENT = cpu_table(600_000, step_s=0.1)

Fsck = Callable[..., dict[str, Any]]


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> Path:
    """The storage of the servers of a test."""
    return tmp_path / "data"


@pytest.fixture(name="fsck")
def _fsck(postgres_dsn: str, catalog_schema: str, data: Path) -> Fsck:
    """Run it on the catalog and storage of a test; its exit code must be that of what it finds."""

    def run(*options: str) -> dict[str, Any]:
        place = ("--catalog-dsn", postgres_dsn, "--catalog-schema", catalog_schema, "--storage-url", str(data))
        done = run_process("fsck", *place, "--json", *options)
        assert done.code == bool(done.document["problems"]), done.err
        return dict(done.document)

    return run


def _kinds(document: dict[str, Any]) -> list[str]:
    return sorted(finding["kind"] for finding in document["findings"])


@pytest.fixture(name="files")
def _files(client: timestore.Client) -> list[Path]:
    """The files of two appends, of which one has two windows."""
    client.append("cpu", cpu_table(100), key={"region": "eu"})
    client.append("cpu", cpu_table(4, step_s=43_200), key={"region": "us"})
    return manifest_paths(client, "cpu")


def _rewrite(path: Path, statement: str) -> None:
    path.chmod(0o644)
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)


def test_what_is_whole_is_clean(files: list[Path], fsck: Fsck) -> None:
    """Nothing is found where nothing is wrong, however deep one looks; every file and object was looked at."""
    for options in ((), ("--deep",)):
        document = fsck(*options)
        assert document["findings"] == []
        assert document["files"] == document["objects"] == len(files) >= 3


def test_missing_and_cut_files(files: list[Path], fsck: Fsck) -> None:
    """Files that are missing, or of another size, are named with their dataset."""
    files[0].unlink()
    files[1].chmod(0o644)
    os.truncate(files[1], 10)

    document = fsck()

    assert _kinds(document) == ["missing", "size"]
    assert {Path(finding["path"]).name for finding in document["findings"]} == {path.name for path in files[:2]}
    assert {finding["dataset"] for finding in document["findings"]} == {"cpu"}


def test_a_flipped_bit_needs_a_deep_look(files: list[Path], fsck: Fsck) -> None:
    """A byte that changed in place is found by the checksum."""
    files[0].chmod(0o644)
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)

    assert _kinds(fsck()) == []
    assert _kinds(fsck("--deep")) == ["checksum"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("DELETE FROM data WHERE rowid = 0", ["rows"]),
        ("UPDATE data SET up = NOT up", ["digest"]),
        ("UPDATE timestore_file SET dataset = 'mem'", ["contradiction"]),
        ("UPDATE timestore_file SET row_count = 7, key = '{}'", ["contradiction", "contradiction"]),
        ("DROP TABLE data", ["unreadable"]),
    ],
)
def test_what_a_file_has_is_not_what_the_catalog_says(
    change: str, found: list[str], files: list[Path], fsck: Fsck, connections: Connections
) -> None:
    """Files whose bytes are as the catalog says, and whose rows or own words are not, are found too."""
    _rewrite(files[0], change)
    _believe(connections, files[0])

    assert _kinds(fsck("--deep")) == found
    assert _kinds(fsck()) == []


def _believe(connections: Connections, path: Path) -> None:
    """Let the catalog have a file's bytes as they are now."""
    checksum = f"xxh3:{xxhash.xxh3_128_hexdigest(path.read_bytes())}"
    with connections.connection() as connection:
        connection.execute(
            "UPDATE holders SET bytes = %s, checksum = %s WHERE holder_id = %s",
            (path.stat().st_size, checksum, path.stem),
        )


def test_orphans(files: list[Path], data: Path, fsck: Fsck) -> None:
    """What nobody knows is an orphan: a copy of a data file, a foreign file, what an interrupted copy left."""
    shutil.copy(files[0], files[0].with_stem("copy"))
    (data / "notes.txt").write_text("mine")
    files[0].with_name(f"{files[0].name}.partial").write_bytes(b"half")

    assert _kinds(fsck("--deep")) == ["orphan", "orphan", "orphan"]


def test_a_file_in_flight_is_no_orphan(client: timestore.Client, server_url: str, data: Path, fsck: Fsck) -> None:
    """While a put runs, its files are in flight; when it has committed they are listed, when it died they are gone."""
    client.append("cpu", cpu_table(10))
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    assert put.answer() is not None
    put.send(SENT)
    wait_until(lambda: len(published_files(data)) > 1)

    assert set(_kinds(fsck())) == {"in_flight"}
    put.mark_end(SENT.num_rows)
    put.finish()

    assert _kinds(fsck("--deep")) == []


def test_never_an_orphan_while_puts_commit(start_service: StartService, data: Path, fsck: Fsck) -> None:
    """However often it looks while puts come, commit and are given up, it finds no problem."""
    url = start_service().url
    with timestore.connect(url) as client:
        appends = (timestore.Append(dataset=f"d{n % 3}", data=cpu_table(50, offset=n)) for n in range(200))
        thread = threading.Thread(target=lambda: client.append_many(appends), daemon=True)
        thread.start()
        looks = 0
        while thread.is_alive() and looks < 5:
            assert fsck()["problems"] == 0
            looks += 1
        thread.join(timeout=60)
    assert fsck()["files"] == 200


def test_condemned_files_are_no_problem(
    files: list[Path], client: timestore.Client, fsck: Fsck, connections: Connections
) -> None:
    """Files that will be deleted are named, and are no problem."""
    client.drop_dataset("cpu", confirm="cpu")
    with connections.connection() as connection:
        connection.execute("DELETE FROM slice_appends")
        connection.execute("DELETE FROM slices")
        connection.execute(
            "WITH gone AS (DELETE FROM holders RETURNING *) "
            "INSERT INTO condemned_files (holder_id, storage, path) SELECT holder_id, storage, path FROM gone"
        )

    document = fsck()

    assert set(_kinds(document)) == {"condemned"}
    assert (document["problems"], len(document["findings"])) == (0, len(files))


def test_the_wrong_storage_is_said_to_be_wrong(
    client: timestore.Client, postgres_dsn: str, catalog_schema: str, tmp_path: Path
) -> None:
    """A storage that is not the catalog's is not compared, and not marked."""
    client.append("cpu", cpu_table(10))
    place = ("--catalog-dsn", postgres_dsn, "--catalog-schema", catalog_schema)

    done = run_process("fsck", *place, "--storage-url", str(tmp_path / "elsewhere"))

    assert (done.code, "has no marker" in done.err) == (1, True)
    assert not (tmp_path / "elsewhere").exists()


def test_beside_a_running_server_and_after_it(server_process: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """On a data directory it finds the embedded catalog, whether or not a server runs on it."""
    server = server_process()
    with timestore.connect(server.url) as client:
        client.append("cpu", cpu_table(10))

    running = run_process("fsck", "--data-dir", str(server.data_dir), "--deep")
    assert server.terminate() == 0
    stopped = run_process("fsck", "--data-dir", str(server.data_dir), "--deep")

    assert running.out == stopped.out == "1 files read, 1 objects in storage, 0 problems\n", running.err
    nowhere = run_process("fsck", "--data-dir", str(tmp_path / "none"))
    assert (nowhere.code, "there is no data directory" in nowhere.err) == (1, True)
    assert not (tmp_path / "none").exists()
