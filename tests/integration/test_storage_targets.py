"""Several storage targets in one catalog: a dataset's files are all in its own, and trouble with one is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

import timestore
from catalog.connections import Connections
from catalog.ledger import Ledger
from catalog.lifecycle import Lifecycle
from catalog.records import CommitOutcome, Intent, Outcome
from catalog.transfer import export_catalog, import_catalog
from storage.horizon import read_horizon, write_horizon
from storage.local import LocalStore
from storage.store import StoredObject
from storage.targets import Targets
from tests.fixtures.catalog_rows import commit, creation, new_append, new_slice, next_plan, open_ledger
from tests.fixtures.command_line import Done, run_process
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.restoring import Backup, Restore
from tests.fixtures.server import StartService, wait_until
from timestore.errors import ConflictError, NotFoundError, TimestoreError
from writers.housekeeping import Housekeeping

NOW = timedelta(0)
ARCHIVED = {"storage": "archive"}


@pytest.fixture(name="archive")
def _archive(tmp_path: Path) -> Path:
    """The directory of the target 'archive'."""
    return tmp_path / "archive"


@pytest.fixture(name="both")
def _both(client: timestore.Client, archive: Path) -> timestore.Client:
    """A client of a server with two targets, and a dataset in each."""
    client.add_storage("archive", str(archive))
    client.append("hot", cpu_table(10))
    client.append("cold", cpu_table(20), create=ARCHIVED)
    return client


def _fails(call: Callable[[], object], kind: str) -> TimestoreError:
    with pytest.raises(TimestoreError) as caught:
        call()
    assert caught.value.kind == kind, caught.value
    return caught.value


def test_files_are_where_their_dataset_belongs(both: timestore.Client, archive: Path, tmp_path: Path) -> None:
    """Puts of a dataset go to its target; reads, SQL, manifest and description find them there."""
    assert {path.parts[-3] for path in published_files(tmp_path / "data")} == {"hot"}
    assert {path.parts[-3] for path in published_files(archive)} == {"cold"}
    assert (both.describe("hot")["storage"], both.describe("cold")["storage"]) == ("default", "archive")
    assert both.read("cold").equals(cpu_table(20))
    assert both.sql("SELECT (SELECT count(*) FROM hot) + (SELECT count(*) FROM cold) AS n").to_pylist() == [{"n": 30}]
    [item] = both.manifest("cold")
    assert item["uri"].startswith(archive.as_uri())
    both.append("cold", cpu_table(5, offset=20), idempotency_key="a")
    assert both.append("cold", cpu_table(5, offset=20), idempotency_key="a").replayed


def test_a_dataset_never_moves(both: timestore.Client) -> None:
    """Another storage than a dataset's is refused, and a name that there is not is told those there are."""
    assert (
        "storage is archive"
        in _fails(lambda: both.append("cold", cpu_table(1), create={"storage": "default"}), "dataset_exists").message
    )
    assert both.append("cold", cpu_table(1, offset=20), create=ARCHIVED).version == 2
    schema = cpu_table(1).schema
    assert both.create_dataset("colder", schema, storage="archive")["storage"] == "archive"
    for call in (
        lambda: both.append("new", cpu_table(1), create={"storage": "nowhere"}),
        lambda: both.create_dataset("new", schema, storage="nowhere"),
        lambda: both.test_storage("nowhere"),
    ):
        failure = _fails(call, "storage_not_found")
        assert isinstance(failure, NotFoundError)
        assert "'default', 'archive'" in failure.message


def test_added_while_servers_run(start_service: StartService, archive: Path) -> None:
    """A target that one server adds is usable through another that was running; adding it twice changes nothing."""
    with timestore.connect(start_service().url) as one, timestore.connect(start_service().url) as two:
        assert one.add_storage("archive", str(archive))["added"]
        assert not two.add_storage("archive", archive.as_uri())["added"]
        assert two.append("cold", cpu_table(10), create=ARCHIVED).version == 1
        assert one.read("cold").num_rows == 10
        [default, added] = one.list_storage()
        assert (default["storage"], default["datasets"], default["state"]) == ("default", 0, "ok")
        assert (added["url"], added["datasets"], added["slices"], added["state"]) == (archive.as_uri(), 1, 1, "ok")


def test_what_cannot_be_a_target(both: timestore.Client, archive: Path, tmp_path: Path) -> None:
    """A place is taken once, is empty, and lies neither in another target nor around one."""
    full, data = tmp_path / "full", tmp_path / "data"
    full.mkdir()
    (full / "somebody's").write_bytes(b"")
    for name, place in (
        ("default", tmp_path / "new"),
        ("archive", tmp_path / "new"),
        ("second", archive),
        ("within", archive / "below"),
        ("around", tmp_path),
        ("hot", data),
        ("full", full),
    ):
        failure = _fails(lambda name=name, place=place: both.add_storage(name, str(place)), "storage_exists")  # type: ignore[misc]
        assert isinstance(failure, ConflictError)
    assert [each["storage"] for each in both.list_storage()] == ["default", "archive"]
    assert list(full.iterdir()) == [full / "somebody's"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://AKIDEXAMPLE:hunter2secret@bucket/p", {}),
        ("s3://hunter2secret@bucket", {}),
        ("https://h/c?sig=hunter2secret", {}),
        ("abfss://c:hunter2secret@account.dfs.core.windows.net/p", {}),
        ("s3://bucket", {"secret": "hunter2secret"}),
        ("s3://bucket", {"key": "hunter2secret"}),
        ("s3://bucket", {"aws_session_token": "hunter2secret"}),
        ("abfs://c@account/p", {"connection_string": "hunter2secret"}),
        ("abfs://c@account/p", {"endpoint": "x;AccountKey=hunter2secret"}),
        ("s3://bucket", {"SSECustomerKey": "hunter2secret"}),
        ("relative/directory", {}),
        ("file:///x\n", {}),
    ],
)
def test_no_secret_gets_in(client: timestore.Client, url: str, options: dict[str, str]) -> None:
    """URLs and options that have a secret, or look so, are refused, and the secret is not said again."""
    calls: list[Callable[[], object]] = [
        lambda: client.add_storage("archive", url, options=options),
        lambda: client.test_storage(url, options=options),
    ]
    for call in calls:
        assert "hunter2secret" not in str(_fails(call, "descriptor_invalid"))


def test_what_a_test_says(both: timestore.Client, archive: Path, tmp_path: Path) -> None:
    """A place is tried from the server, and leaves no object; what does not work has its reason."""
    steps = ["write", "read", "list", "create only if absent", "delete"]
    place = both.test_storage(str(tmp_path / "new"))
    assert (place["ok"], [step["step"] for step in place["steps"]]) == (True, steps)
    named = both.test_storage("archive")
    assert (named["ok"], [step["step"] for step in named["steps"]]) == (True, [*steps, "belongs to this catalog"])
    assert not [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    (tmp_path / "file").write_bytes(b"")
    refused = both.test_storage(str(tmp_path / "file"))
    assert (refused["ok"], refused["steps"][0]["step"]) == (False, "write")
    assert refused["steps"][0]["reason"]
    assert len(published_files(archive)) == 1


@pytest.fixture(name="away")
def _away(both: timestore.Client, archive: Path) -> Path:
    """Where the archive's directory is, when it is not where it was."""
    place = archive.with_name("away")
    archive.rename(place)
    return place


def test_a_target_that_is_away_is_its_own_trouble(
    away: Path, start_service: StartService, both: timestore.Client, archive: Path
) -> None:
    """Its datasets take no puts, and say which storage and what to do; all else goes on; it comes back by itself."""
    with timestore.connect(start_service().url, retries=False) as fresh:
        for client in (both, fresh):
            client.append("hot", cpu_table(1))
            with pytest.raises(TimestoreError, match=r"archive.*timestore storage test archive") as caught:
                client.append("cold", cpu_table(1))
            assert caught.value.kind in ("storage_unavailable", "fenced")
            assert client.health()["status"] == "ok"
            swept = client.sweep()
            assert list(swept["left"]) == ["archive"]
            assert [each["state"] == "ok" for each in client.list_storage()] == [True, False]
        assert not archive.exists()  # nothing was written in its place
        away.rename(archive)
        for client in (both, fresh):
            assert client.append("cold", cpu_table(1)).rows == 1
            assert client.sweep()["left"] == {}


def test_a_store_that_is_not_reached(
    start_service: StartService, both: timestore.Client, connections: Connections, archive: Path
) -> None:
    """A server that cannot open a target at all refuses its puts as storage_unavailable; another one's go on."""
    with connections.connection() as connection:  # as a server sees it that lacks the driver
        connection.execute("UPDATE storage_targets SET url = 'nostore://bucket' WHERE name = 'archive'")
    with timestore.connect(start_service().url, retries=False) as blind:
        failure = _fails(lambda: blind.append("cold", cpu_table(1)), "storage_unavailable")
        assert failure.details["storage"] == "archive"
        _fails(lambda: blind.read("cold"), "storage_unavailable")
        assert blind.append("hot", cpu_table(1)).version == 2
        assert list(blind.sweep()["left"]) == ["archive"]
    assert both.append("cold", cpu_table(1, offset=20)).version == 2
    assert len(published_files(archive)) == 2


def test_a_foreign_root_fences_only_its_own(both: timestore.Client, start_service: StartService, archive: Path) -> None:
    """A target whose place has become another catalog's is fenced; it is never marked anew."""
    marker = archive / "timestore.json"
    marker.chmod(0o644)
    marker.write_text('{"format": 1, "catalog_id": "another"}')
    with timestore.connect(start_service().url, retries=False) as client:
        _fails(lambda: client.append("cold", cpu_table(1)), "fenced")
        _fails(lambda: client.drop_dataset("cold", confirm="cold"), "fenced")
        assert client.append("hot", cpu_table(1)).version == 2
        assert client.read("cold").num_rows == 20
    assert "another" in marker.read_text()


def test_each_target_has_its_horizon(
    both: timestore.Client, start_service: StartService, archive: Path, tmp_path: Path
) -> None:
    """A target that knows of more commits than the catalog fences its datasets, whatever is committed to others."""
    store = LocalStore(root=archive)
    wait_until(lambda: read_horizon(store) > 0)
    write_horizon(store, 1_000)

    with timestore.connect(start_service().url, retries=False) as client:
        for offset in range(5):
            client.append("hot", cpu_table(1, offset=offset))
        for call in (
            lambda: client.append("cold", cpu_table(1)),
            lambda: client.create_dataset("colder", cpu_table(1).schema, storage="archive"),
            lambda: client.expire("cold"),
        ):
            assert "older" in _fails(call, "fenced").message
        assert list(client.sweep()["left"]) == ["archive"]
        assert client.read("cold").num_rows == 20
    assert read_horizon(store) == 1_000
    assert 0 < read_horizon(LocalStore(root=tmp_path / "data")) < 1_000


class _Unreached(LocalStore):
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        raise TimestoreError("storage_unavailable", "no credentials")


def test_sweeping_is_left_to_who_reaches_it(both: timestore.Client, connections: Connections, archive: Path) -> None:
    """What died in a target is neither condemned nor deleted by a server that does not reach it; another one does."""
    ledger = Ledger(connections=connections, run_id=uuid4())
    ledger.start_lease(address="here", software_version="0", lease_s=0)
    ledger.record_intents([Intent(holder_id=uuid4(), storage="archive", path="left.duckdb")])
    (archive / "left.duckdb").write_bytes(b"rows")

    for store, swept in ((_Unreached, 0), (LocalStore, 1)):
        targets = _OneOpened(archive=store(root=archive))
        keeper = Housekeeping(
            lifecycle=Lifecycle(connections=connections),
            targets=targets,
            history_retention=NOW,
            ticket_lifetime=NOW,
            lease=NOW,
        )
        done = keeper.sweep()
        assert (done.condemned, done.deleted, len(done.left)) == (swept, swept, 1 - swept)
        assert (archive / "left.duckdb").exists() == (swept == 0)


class _OneOpened(Targets):
    """Two targets, of which the second is opened already."""

    def __init__(self, *, archive: LocalStore) -> None:
        super().__init__(default=LocalStore(root=archive.root.with_name("data")))
        self._stores["archive"] = archive

    def names(self) -> list[str]:
        return ["default", "archive"]


def test_files_go_with_their_dataset(both: timestore.Client, connections: Connections, archive: Path) -> None:
    """What a dropped dataset had is deleted in its own target, and nothing in the other."""
    both.drop_dataset("cold", confirm="cold")
    keeper = Housekeeping(
        lifecycle=Lifecycle(connections=connections),
        targets=_OneOpened(archive=LocalStore(root=archive)),
        history_retention=NOW,
        ticket_lifetime=NOW,
        lease=timedelta(days=1),
    )
    for _ in range(2):
        keeper.run()
    assert published_files(archive) == []
    assert both.read("hot").num_rows == 10


def test_an_older_server_puts_nothing_into_the_wrong_target(both: timestore.Client, connections: Connections) -> None:
    """A server of before, which knows 'default' alone, commits to datasets there, and is refused for others."""
    with connections.connection() as connection:
        connection.execute("SELECT check_server(5)")
    ledger = open_ledger(connections)
    for storage in ("default", "archive"):
        plan = creation(f"new-{storage}")
        commit(ledger, replace(plan, spec=replace(plan.spec, storage=storage)), [])

    assert [each.outcome for each in _commit_as_before(ledger, "new-default")] == [Outcome.COMMITTED]
    assert "upgrade this one" in _fails(lambda: _commit_as_before(ledger, "new-archive"), "fenced").message
    assert both.describe("new-archive")["version"] == 0


def _commit_as_before(ledger: Ledger, name: str) -> list[CommitOutcome]:
    """Commit as a server does that knows migration 6: all storage is 'default'."""
    dataset = ledger.find_dataset(name)
    assert dataset is not None
    plan = next_plan(dataset)
    ledger._known_migration = 6
    return commit(ledger, replace(plan, spec=replace(plan.spec, storage="default")), [new_append([new_slice("a", 0)])])


Command = Callable[..., Done]


@pytest.fixture(name="command")
def _command(postgres_dsn: str, catalog_schema: str, tmp_path: Path) -> Command:
    """Run a command that works on catalog and storage."""

    def run(*arguments: str, schema: str = catalog_schema, storage: bool = True, code: int = 0) -> Done:
        place = ["--catalog-dsn", postgres_dsn, "--catalog-schema", schema]
        place += ["--storage-url", str(tmp_path / "data")] if storage else []
        done = run_process(*arguments, *place)
        assert done.code == code, done.out + done.err
        return done

    return run


def test_fsck_compares_all(both: timestore.Client, command: Command, archive: Path) -> None:
    """What is missing or unknown is found in each target, with its storage; one that is away is a problem."""
    clean = command("fsck", "--deep", "--json").document
    assert (clean["files"], clean["problems"]) == (2, 0)
    [path] = published_files(archive)
    path.rename(archive / "stray.duckdb")
    found = command("fsck", "--json", code=1).document["findings"]
    assert {(each["kind"], each["storage"]) for each in found} == {("missing", "archive"), ("orphan", "archive")}
    archive.rename(archive.with_name("away"))
    found = command("fsck", "--json", code=1).document
    assert [(each["kind"], each["storage"]) for each in found["findings"]] == [("unreachable", "archive")]
    assert found["files"] == 1


def test_rebuilt_from_all_targets(
    both: timestore.Client, start_service: StartService, command: Command, catalog_schema: str, archive: Path
) -> None:
    """A new catalog has each dataset in the target that has its files, and goes on there."""
    new = f"{catalog_schema}_new"
    command("rebuild", "--storage", f"archive={archive}", schema=new)
    with timestore.connect(start_service(catalog_schema=new).url) as client:
        assert client.read("hot").num_rows == 10
        assert client.read("cold").equals(cpu_table(20))
        assert client.describe("cold")["storage"] == "archive"
        assert client.append("cold", cpu_table(1, offset=20)).version == 2
        assert [each["state"] for each in client.list_storage()] == ["ok", "ok"]
    command("fsck", "--deep", schema=new)
    assert len(published_files(archive)) == 2
    _fails(both.sweep, "fenced")  # the catalog before has no target any more


def test_adopting_takes_in_every_target(
    start_service: StartService,
    dump: Backup,
    restore: Restore,
    command: Command,
    connections: Connections,
    archive: Path,
) -> None:
    """A restored catalog learns what each target has, also one that was added after the backup."""
    service = start_service()
    later = archive.with_name("later")
    with timestore.connect(service.url) as client:
        client.add_storage("archive", str(archive))
        client.append("cold", cpu_table(10), create=ARCHIVED)
        backup = dump()
        client.append("cold", cpu_table(10, offset=10))
        client.add_storage("later", str(later))
        client.append("last", cpu_table(10), create={"storage": "later"})
    service.close()
    restore(backup)
    service = start_service()
    with timestore.connect(service.url, retries=False) as client:
        _fails(lambda: client.append("cold", cpu_table(1)), "fenced")
        assert "rebuild --adopt" in _fails(lambda: client.add_storage("later", str(later)), "fenced").message
    service.close()
    with connections.connection() as connection:  # the dump has that of a server that ran
        connection.execute("UPDATE server_leases SET expires_at = clock_timestamp()")

    archive.rename(archive.with_name("away"))
    refused = command("rebuild", "--adopt", "--storage", f"later={later}", code=1)
    assert "archive" in refused.err
    archive.with_name("away").rename(archive)
    command("rebuild", "--adopt", "--storage", f"later={later}")

    with timestore.connect(start_service().url) as client:
        assert client.read("cold").num_rows == 20
        assert client.read("last").num_rows == 10
        assert client.append("last", cpu_table(1, offset=20)).version == 2
    command("fsck", "--deep")


def test_a_target_moves(
    start_service: StartService, command: Command, archive: Path, catalog_schema: str, postgres_dsn: str
) -> None:
    """Where its files have moved, the catalog is told so, while no server runs; another place is not taken for it."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.add_storage("archive", str(archive))
        client.append("cold", cpu_table(10), create=ARCHIVED)
        moved = archive.with_name("moved")
        command("catalog", "change-storage", "archive", str(moved), storage=False, code=1)
    service.close()
    archive.rename(moved)
    command("catalog", "change-storage", "archive", str(archive), storage=False, code=1)
    command("catalog", "change-storage", "archive", str(moved), storage=False)

    with timestore.connect(start_service().url) as client:
        assert client.append("cold", cpu_table(10, offset=10)).version == 2
        assert client.read("cold").num_rows == 20
        assert client.list_storage()[1]["url"] == moved.as_uri()


def test_targets_travel_in_an_archive(
    start_service: StartService, postgres_dsn: str, catalog_schema: str, archive: Path, tmp_path: Path
) -> None:
    """An exported and imported catalog has the same targets, and its datasets their files."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.add_storage("archive", str(archive))
        client.append("cold", cpu_table(10), create=ARCHIVED)
    service.close()
    export_catalog(postgres_dsn, catalog_schema, tmp_path / "catalog.zip")
    import_catalog(postgres_dsn, f"{catalog_schema}_2", tmp_path / "catalog.zip")

    with timestore.connect(start_service(catalog_schema=f"{catalog_schema}_2").url) as client:
        assert client.append("cold", cpu_table(10, offset=10)).version == 2
        assert client.read("cold").num_rows == 20
