"""``timestore rebuild``: what files can tell is served again, from no catalog or by an older one, and no more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest

import timestore
from catalog.connections import Connections
from tests.fixtures.command_line import Done, run_process
from tests.fixtures.data import cpu_table
from tests.fixtures.files import manifest_paths, published_files
from tests.fixtures.restoring import Backup, Restore
from tests.fixtures.server import ServerProcess, StartService
from timestore.errors import TimestoreError
from timestore.identifiers import uuid7
from timestore.windows import WindowLength
from writers.rebuild import derive_window

SENT = cpu_table(600_000, step_s=0.1)
MANY_WINDOWS = cpu_table(20, step_s=43_200)

Rebuild = Callable[..., Done]


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> Path:
    """The storage of the servers of a test."""
    return tmp_path / "data"


@pytest.fixture(name="rebuild")
def _rebuild(postgres_dsn: str, catalog_schema: str, data: Path) -> Rebuild:
    """Run it on the storage of a test, into a schema of its own unless it adopts."""

    def run(*options: str, schema: str = catalog_schema, code: int = 0) -> Done:
        place = ("--catalog-dsn", postgres_dsn, "--catalog-schema", schema, "--storage-url", str(data))
        done = run_process("rebuild", *place, *options)
        assert done.code == code, done.err
        return done

    return run


@pytest.fixture(name="anew")
def _anew(rebuild: Rebuild, start_service: StartService, catalog_schema: str) -> Callable[[], tuple[str, Any]]:
    """Rebuild from files alone, and start a server on what came of it."""

    def run() -> tuple[str, Any]:
        document = rebuild("--json", schema=f"{catalog_schema}_new").document
        return start_service(catalog_schema=f"{catalog_schema}_new").url, document

    return run


def _fsck(postgres_dsn: str, schema: str, data: Path) -> Done:
    place = ("--catalog-dsn", postgres_dsn, "--catalog-schema", schema, "--storage-url", str(data))
    return run_process("fsck", *place, "--deep")


def _forge(path: Path, statement: str) -> None:
    """Change a file in place, as somebody who is not Timestore."""
    path.chmod(0o644)
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)


def test_everything_from_files_alone(
    start_service: StartService,
    anew: Callable[[], tuple[str, Any]],
    postgres_dsn: str,
    catalog_schema: str,
    data: Path,
) -> None:
    """Rows, keys, windows, schemas and idempotency keys come back; retries are replays; puts and fsck go on."""
    service = start_service()
    wider = cpu_table(10, offset=100).append_column("extra", pa.array(range(10), pa.int64()))
    with timestore.connect(service.url) as client:
        sent = [
            client.append("cpu", cpu_table(100), key={"region": "eu"}, idempotency_key="a", create={"window": "12h"}),
            client.append("cpu", MANY_WINDOWS, key={"region": "us"}, idempotency_key="b"),
            client.append("cpu", wider, key={"region": "eu"}, idempotency_key="c"),
        ]
        client.append("big", SENT, idempotency_key="d", create={"window": "month"})
        before = {name: client.read(name, with_key=True) for name in ("cpu", "big")}
        old = client.describe("cpu")
    service.close()

    url, document = anew()

    assert document["left"] == []
    assert {each["dataset"]: each["appends"] for each in document["datasets"]} == {"big": 1, "cpu": 3}
    with timestore.connect(url) as client:
        assert {name: client.read(name, with_key=True) for name in ("cpu", "big")} == before
        described = client.describe("cpu")
        assert described["incarnation"] != old["incarnation"]
        assert (described["window"], described["order"], described["version"]) == ("12h", "any", 3)
        assert client.describe("big")["window"] == "month"
        again = client.append("cpu", MANY_WINDOWS, key={"region": "us"}, idempotency_key="b")
        assert (again.replayed, again.version) == (True, 2)
        assert (again.append_id, again.fingerprint, again.files) == (
            sent[1].append_id, sent[1].fingerprint, sent[1].files,
        )  # fmt: skip
        with pytest.raises(TimestoreError, match="stands for another append"):
            client.append("cpu", cpu_table(99), key={"region": "eu"}, idempotency_key="a")
        assert client.append("cpu", cpu_table(1), key={"region": "eu"}).version == 4
    assert _fsck(postgres_dsn, f"{catalog_schema}_new", data).code == 0


def test_the_catalog_before_is_fenced(
    client: timestore.Client, start_service: StartService, anew: Callable[[], tuple[str, Any]]
) -> None:
    """Once a storage has a new catalog, the old one may read and no more, should it turn up again."""
    client.append("cpu", cpu_table(10))
    anew()

    with timestore.connect(start_service().url, retries=False) as old:
        assert old.read("cpu").num_rows == 10
        with pytest.raises(TimestoreError, match="belongs to catalog"):
            old.append("cpu", cpu_table(10))


def test_parts_of_appends_are_left_alone(client: timestore.Client, anew: Callable[[], tuple[str, Any]]) -> None:
    """An append of which a file is missing is not published, and its other files stay."""
    client.append("cpu", MANY_WINDOWS, idempotency_key="part")
    client.append("cpu", cpu_table(10), idempotency_key="whole")
    first, *others = manifest_paths(client, "cpu", version=1)
    first.unlink()

    url, document = anew()

    [left] = document["left"]
    assert (left["reason"], left["idempotency_key"], len(left["paths"])) == ("incomplete", "part", len(others))
    assert all(path.exists() for path in others)
    with timestore.connect(url) as rebuilt:
        assert rebuilt.read("cpu").num_rows == 10
        assert rebuilt.append("cpu", MANY_WINDOWS, idempotency_key="part").replayed is False


def _second_append(path: Path, *, fingerprint: str | None) -> None:
    """Forge another whole append of a file's idempotency key: the rows once more, under other ids."""
    file_id, append_id = uuid7(), uuid7()
    copy = path.with_stem(str(file_id))
    shutil.copy(path, copy)
    said = f"'{fingerprint}'" if fingerprint else "appends[1].fingerprint"
    _forge(
        copy,
        f"UPDATE timestore_file SET file_id = '{file_id}', appends = [struct_pack(append_id := '{append_id}', "
        f"idempotency_key := appends[1].idempotency_key, fingerprint := {said}, "
        "total_rows := appends[1].total_rows, rows := appends[1].rows)]",
    )


def test_two_that_disagree_are_not_chosen_from(client: timestore.Client, anew: Callable[[], tuple[str, Any]]) -> None:
    """Two whole appends of one key with different rows are reported, and none of them is published."""
    client.append("cpu", cpu_table(10), idempotency_key="a")
    client.append("cpu", cpu_table(10, offset=10), idempotency_key="b")
    [path] = manifest_paths(client, "cpu", version=1)
    _second_append(path, fingerprint="f1:other")

    url, document = anew()

    assert [left["reason"] for left in document["left"]] == ["disagreeing", "disagreeing"]
    with timestore.connect(url) as rebuilt:
        assert rebuilt.read("cpu") == cpu_table(10, offset=10)


def test_the_same_append_twice_counts_once(client: timestore.Client, anew: Callable[[], tuple[str, Any]]) -> None:
    """Of two whole appends of one key with the same rows, the first is published."""
    receipt = client.append("cpu", cpu_table(10), idempotency_key="a")
    _second_append(manifest_paths(client, "cpu")[0], fingerprint=None)

    url, document = anew()

    assert [left["reason"] for left in document["left"]] == ["key_taken"]
    with timestore.connect(url) as rebuilt:
        assert rebuilt.read("cpu").num_rows == 10
        assert rebuilt.receipt("cpu", "a").append_id == receipt.append_id


def test_replaced_files_are_not_published(client: timestore.Client, anew: Callable[[], tuple[str, Any]]) -> None:
    """A file whose rows another one has as well is not published beside it."""
    client.append("cpu", cpu_table(10), idempotency_key="a")
    client.append("cpu", cpu_table(10), idempotency_key="b")
    first, second = manifest_paths(client, "cpu")
    _forge(second, f"UPDATE timestore_file SET replaces = ['{first.stem}']")

    url, document = anew()

    assert document["left"] == []
    with timestore.connect(url) as rebuilt:
        assert rebuilt.read("cpu").num_rows == 10


def test_files_that_cannot_be_trusted(
    client: timestore.Client, data: Path, anew: Callable[[], tuple[str, Any]]
) -> None:
    """Damaged files, forged rows and copies are named, and what is whole is published all the same."""
    client.append("cpu", cpu_table(10), idempotency_key="damaged")
    client.append("cpu", cpu_table(10), idempotency_key="forged")
    client.append("cpu", cpu_table(10), idempotency_key="copied")
    damaged, forged, copied = manifest_paths(client, "cpu")
    damaged.chmod(0o644)
    damaged.write_bytes(b"no database")
    _forge(forged, "UPDATE data SET up = NOT up")
    shutil.copy(copied, data / copied.name)

    url, document = anew()

    assert sorted(left["reason"] for left in document["left"]) == ["misplaced", "unreadable", "unreadable"]
    with timestore.connect(url) as rebuilt:
        assert rebuilt.history("cpu")[0]["rows"] == rebuilt.read("cpu").num_rows == 10


def test_another_dataset_of_that_name(client: timestore.Client, anew: Callable[[], tuple[str, Any]]) -> None:
    """Rows of a dropped dataset with other windows are not mixed with those of its successor."""
    client.append("cpu", cpu_table(10), idempotency_key="old", create={"window": "1h"})
    client.drop_dataset("cpu", confirm="cpu")
    client.append("cpu", cpu_table(10, offset=10), idempotency_key="new", create={"window": "1d"})

    url, document = anew()

    assert [(left["reason"], left["idempotency_key"]) for left in document["left"]] == [("unfit", "old")]
    with timestore.connect(url) as rebuilt:
        assert rebuilt.read("cpu") == cpu_table(10, offset=10)


def test_a_data_directory_without_its_postgres(server_process: Callable[..., ServerProcess]) -> None:
    """With the default settings: the folder postgres is lost, one command, and the server serves as before."""
    server = server_process()
    with timestore.connect(server.url) as client:
        client.append("cpu", cpu_table(10), idempotency_key="a")
    assert server.terminate() == 0
    shutil.rmtree(server.data_dir / "postgres")

    done = run_process("rebuild", "--data-dir", str(server.data_dir))

    assert done.code == 0, done.err
    assert "cpu: 1 appends, 1 files, 10 rows taken in; version 1, a new dataset with the window 1d" in done.out
    assert "What files cannot tell:" in done.out
    again = run_process("rebuild", "--data-dir", str(server.data_dir))
    assert (again.code, "has a catalog already" in again.err) == (1, True)
    with timestore.connect(server.start().url) as client:
        assert client.append("cpu", cpu_table(10), idempotency_key="a").replayed
        assert client.append("cpu", cpu_table(10)).version == 2


def test_nothing_to_rebuild_from(rebuild: Rebuild, catalog_schema: str) -> None:
    """Where there are no files the storage is said to be the wrong one, and no catalog is made."""
    assert "there are no files" in rebuild(schema=f"{catalog_schema}_new", code=1).err


def test_adopting_what_a_restored_catalog_forgot(
    start_service: StartService,
    dump: Backup,
    restore: Restore,
    rebuild: Rebuild,
    connections: Connections,
    postgres_dsn: str,
    catalog_schema: str,
    data: Path,
) -> None:
    """What was committed after the backup is served again, what it knew stays as it was, and puts go on."""
    service = start_service()
    with timestore.connect(service.url) as client:
        first = client.append("cpu", cpu_table(10), idempotency_key="a", create={"retention": "36500d"})
        leave_intent(connections, data / "cpu" / "left.duckdb")
        backup = dump()
        late = client.append("cpu", MANY_WINDOWS, idempotency_key="b")
        client.append("new", cpu_table(10), idempotency_key="c")
        old = client.describe("cpu")
    service.close()
    restore(backup)
    assert "are running" in rebuild("--adopt", code=1).err  # as far as the dump knows
    end_leases(connections)
    assert "has a catalog already" in rebuild(code=1).err

    done = rebuild("--adopt")

    assert "cpu: 1 appends" in done.out
    assert "new: 1 appends" in done.out
    assert "left alone (unreadable)" in done.out
    adopted = start_service()
    with timestore.connect(adopted.url) as client:
        assert client.read("cpu").num_rows == 30
        assert client.receipt("cpu", "a") == first
        again = client.append("cpu", MANY_WINDOWS, idempotency_key="b")
        assert (again.replayed, again.append_id, again.files) == (True, late.append_id, late.files)
        described = client.describe("cpu")
        assert described["incarnation"] != old["incarnation"]  # versions may stand for other rows than before
        assert (described["order"], described["retention"]) == ("ordered", "36500d")
        assert client.read("new") == cpu_table(10)
        assert client.append("cpu", cpu_table(10)).version == 3
        assert client.stats()["intents"] == 0
    assert (data / "cpu" / "left.duckdb").exists()  # the intent is dropped, not its file
    assert "1 problems" in _fsck(postgres_dsn, catalog_schema, data).out  # it is an orphan now
    adopted.close()
    rebuild("--adopt")  # once more does nothing
    with timestore.connect(start_service().url) as client:
        assert client.describe("cpu")["version"] == 3


def leave_intent(connections: Connections, path: Path) -> None:
    """A put that was running when the dump was made."""
    with connections.connection() as connection:
        connection.execute(
            "INSERT INTO intents (holder_id, run_id, storage, path) "
            "SELECT gen_random_uuid(), run_id, 'default', %s FROM server_leases LIMIT 1",
            (f"cpu/{path.name}",),
        )
    path.write_bytes(b"half")


def end_leases(connections: Connections) -> None:
    """Let the time pass that a lease takes."""
    with connections.connection() as connection:
        connection.execute("UPDATE server_leases SET expires_at = clock_timestamp()")


def test_adopting_again_after_a_crash(
    start_service: StartService, dump: Backup, restore: Restore, rebuild: Rebuild, connections: Connections, data: Path
) -> None:
    """An adoption that ended half-way leaves the catalog fenced and every file in place; the next one completes it."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.append("cpu", cpu_table(10), idempotency_key="a")
        backup = dump()
        client.append("cpu", cpu_table(10, offset=10), idempotency_key="b")
        client.append("cpu", cpu_table(10, offset=20), idempotency_key="c")
        hidden = manifest_paths(client, "cpu")[-1]
    service.close()
    restore(backup)
    end_leases(connections)
    away = hidden.rename(data.parent / hidden.name)
    with connections.connection() as connection:  # the horizon comes last: without it nothing is over
        connection.execute("ALTER TABLE catalog_identity ADD CONSTRAINT crash CHECK (horizon < 2)")
    rebuild("--adopt", code=1)
    with connections.connection() as connection:
        connection.execute("ALTER TABLE catalog_identity DROP CONSTRAINT crash")
    half = start_service()
    with timestore.connect(half.url, retries=False) as client:
        assert client.read("cpu").num_rows == 20
        with pytest.raises(TimestoreError, match="rebuild --adopt"):
            client.append("cpu", cpu_table(10))
    half.close()
    away.rename(hidden)

    rebuild("--adopt")

    with timestore.connect(start_service().url) as client:
        assert client.read("cpu") == pa.concat_tables(cpu_table(10, offset=offset) for offset in (0, 10, 20))
        assert client.append("cpu", cpu_table(10, offset=30)).version == 4
    assert len(published_files(data)) == 4


def test_a_foreign_storage_is_not_adopted(
    client: timestore.Client, rebuild: Rebuild, data: Path, connections: Connections, service: Any
) -> None:
    """Files of another catalog are not taken in."""
    client.append("cpu", cpu_table(10))
    service.close()
    end_leases(connections)
    marker = data / "timestore.json"
    text = marker.read_text()
    marker.unlink()
    catalog_id = text.split('"catalog_id":"')[1][:36]
    marker.write_text(text.replace(catalog_id, str(UUID(int=1))))

    assert "belongs to catalog" in rebuild("--adopt", code=1).err


@pytest.mark.parametrize("text", ["15m", "1h", "12h", "1d", "2d", "31d", "week", "month", "year"])
@pytest.mark.parametrize("instant_s", [0, 1_700_000_000, -86_400 * 365])
def test_the_length_of_windows_is_derived(text: str, instant_s: int) -> None:
    """Whatever length a dataset has, its windows tell it; where two are as long, both would have made these windows."""
    length = WindowLength.parse(text)
    windows = [[length.containing(instant_s + n * 86_400 * 40)] for n in range(5)]

    assert derive_window(windows) == length
