"""What dead servers leave is swept, and nothing else: PROTOCOL 6."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

import timestore
from catalog.connections import Connections
from catalog.ledger import Ledger
from catalog.lifecycle import SWEPT_KEPT, Lifecycle
from catalog.records import Intent
from storage.local import LocalStore
from storage.store import StoredObject
from storage.targets import Targets
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import StartService, wait_until
from timestore.errors import TimestoreError
from writers.housekeeping import Housekeeping, Swept

SENT = cpu_table(600_000, step_s=0.1)
NOW = timedelta(0)  # a lease that is over at once, in Postgres' own time


class World:
    """A catalog, its storage, and the clock of its Postgres."""

    def __init__(self, connections: Connections, storage: Path) -> None:
        self.connections = connections
        self.lifecycle = Lifecycle(connections=connections)
        self.store = LocalStore(root=storage)
        self.storage = storage

    def leave(self, name: str = "left", *, lease_s: float = 0.0) -> tuple[UUID, Path]:
        """What a server leaves that died between writing a file and committing it."""
        ledger = Ledger(connections=self.connections, run_id=uuid4())
        ledger.start_lease(address="here", software_version="0", lease_s=lease_s)
        file_id, path = uuid4(), self.storage / "cpu" / f"{name}.duckdb"
        ledger.record_intents([Intent(holder_id=file_id, storage="default", path=f"cpu/{path.name}")])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"rows")
        return file_id, path

    def sweep(self, *, lease: timedelta = NOW, store: Any = None) -> Swept:
        """Sweep as a server does that has run for a lease."""
        return Housekeeping(
            lifecycle=self.lifecycle,
            targets=Targets(default=store or self.store),
            history_retention=NOW,
            ticket_lifetime=NOW,
            lease=lease,
        ).sweep()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask or change the catalog by hand."""
        with self.connections.connection() as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def a_day_later(self) -> None:
        """Move the moment at which swept files are looked at again into the past."""
        self.sql(f"UPDATE condemned_files SET forget_after = forget_after - interval '{SWEPT_KEPT.days} days'")


@pytest.fixture(name="world")
def _world(connections: Connections, tmp_path: Path) -> World:
    return World(connections, tmp_path / "data")


def test_what_a_dead_server_left_goes(world: World) -> None:
    """Files of a server whose lease is over are deleted; those of a living one stay."""
    _, left = world.leave()
    _, alive = world.leave("alive", lease_s=60)

    assert world.sweep() == Swept(condemned=1, deleted=1)

    assert not left.exists()
    assert alive.exists()
    assert world.sql("SELECT count(*) FROM intents") == [(1,)]


def test_an_upload_that_lands_late_goes_too(world: World) -> None:
    """Bytes that arrive after their file was swept are deleted a day later; then the file is forgotten."""
    _, path = world.leave()
    world.sweep()
    path.write_bytes(b"late")

    assert world.sweep() == Swept(condemned=0, deleted=0)  # not before the day is over
    assert path.exists()
    world.a_day_later()
    assert world.sweep() == Swept(condemned=0, deleted=1)

    assert not path.exists()
    assert world.sql("SELECT count(*) FROM condemned_files") == [(0,)]


def test_nothing_is_swept_just_after_a_start(world: World) -> None:
    """Within a lease of the start of Postgres, or of the sweeper, nobody could renew a lease: all may look dead."""
    _, path = world.leave()
    age = timedelta(days=36_500)  # a lease longer than this Postgres has run
    assert world.lifecycle.sweep(lease=age) == 0

    assert world.sweep(lease=timedelta(seconds=60)) == Swept(condemned=0, deleted=0)  # this sweeper has just started
    assert path.exists()


def test_a_slow_server_is_fenced(start_service: StartService, world: World) -> None:
    """A put whose server looked dead for longer than a lease, and was swept, ends as fenced; its retry makes it."""
    url = start_service().url
    put = RawPut(url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    assert put.answer() is not None
    put.send(SENT)
    wait_until(lambda: len(published_files(world.storage)) > 0)
    world.sql("UPDATE server_leases SET expires_at = clock_timestamp() - interval '1 second'")

    assert world.sweep().condemned > 0
    put.mark_end(SENT.num_rows)
    with pytest.raises(TimestoreError) as caught:
        put.finish()

    assert caught.value.kind == "fenced"
    world.a_day_later()
    world.sweep()  # of what was published after the first sweep
    assert published_files(world.storage) == []
    with timestore.connect(url) as client:
        assert client.append("cpu", SENT, idempotency_key="a").version == 1
        assert len(published_files(world.storage)) == len(client.manifest("cpu"))


def test_a_lease_that_ran_out_alone_fences_nobody(start_service: StartService, world: World) -> None:
    """Leases are for liveness: a put commits although its server's lease is over, if nobody swept meanwhile."""
    url = start_service().url
    put = RawPut(url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    assert put.answer() is not None
    put.send(SENT)
    world.sql("UPDATE server_leases SET expires_at = clock_timestamp() - interval '1 day'")
    put.mark_end(SENT.num_rows)

    assert put.finish()["rows"] == SENT.num_rows
    assert world.sweep() == Swept(condemned=0, deleted=0)


def test_committed_files_are_never_swept(start_service: StartService, world: World) -> None:
    """Whatever becomes of the server that wrote them, files that a commit took are nobody's to sweep."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.append("cpu", SENT)
    service.close()
    world.sql("UPDATE server_leases SET expires_at = clock_timestamp() - interval '1 day'")
    before = published_files(world.storage)

    assert world.sweep() == Swept(condemned=0, deleted=0)
    assert published_files(world.storage) == before


class _Failing(LocalStore):
    def delete(self, path: str) -> None:
        raise TimestoreError("storage_unavailable", "the store is away")


class _Lying(LocalStore):
    """Says that it deleted, and did not."""

    def delete(self, path: str) -> None:
        """Does nothing."""

    def stat(self, path: str) -> StoredObject | None:
        return StoredObject(path=path, bytes=4)


@pytest.mark.parametrize("kind", [_Failing, _Lying])
def test_what_cannot_be_deleted_stays_condemned(world: World, kind: Callable[..., LocalStore]) -> None:
    """While the bytes are there the file is remembered, and deleted once the store is itself again."""
    _, path = world.leave()

    assert world.sweep(store=kind(root=world.storage)) == Swept(condemned=1, deleted=0)
    assert path.exists()
    assert world.sweep() == Swept(condemned=0, deleted=1)
    assert not path.exists()


def test_sweepers_do_not_get_in_each_others_way(world: World) -> None:
    """Several servers that sweep at once delete each file, count it once, and do not fail."""
    paths = [world.leave(f"left{number}")[1] for number in range(40)]
    swept: list[Swept] = []
    sweepers = [threading.Thread(target=lambda: swept.append(world.sweep())) for _ in range(4)]
    for sweeper in sweepers:
        sweeper.start()
    for sweeper in sweepers:
        sweeper.join()

    assert len(swept) == 4
    assert sum(each.condemned for each in swept) == 40
    assert not any(path.exists() for path in paths)


def test_what_a_living_server_could_not_delete_is_swept(world: World) -> None:
    """Intents that their own server condemned, and whose bytes it could not delete, are swept a lease later."""
    file_id, path = world.leave(lease_s=60)
    world.sql(
        f"UPDATE intents SET condemned_at = clock_timestamp() - interval '1 minute' WHERE holder_id = '{file_id}'"
    )

    assert world.sweep() == Swept(condemned=1, deleted=1)
    assert not path.exists()


def test_leases_of_old_runs_are_forgotten(world: World) -> None:
    """A run that ended a day ago, and left nothing, leaves no row either."""
    ledger = Ledger(connections=world.connections, run_id=uuid4())
    ledger.start_lease(address="here", software_version="0", lease_s=0)
    world.sweep()
    assert world.sql("SELECT count(*) FROM server_leases") == [(1,)]
    world.sql("UPDATE server_leases SET expires_at = clock_timestamp() - interval '2 days'")
    world.sweep()

    assert world.sql("SELECT count(*) FROM server_leases") == [(0,)]


def test_sweeping_on_request(start_service: StartService, world: World) -> None:
    """The action deletes at once what is condemned, says so, and finds nothing the next time."""
    url = start_service().url
    path = world.storage / "old.duckdb"
    path.write_bytes(b"rows")
    world.sql(
        "INSERT INTO condemned_files (holder_id, storage, path) VALUES (gen_random_uuid(), 'default', 'old.duckdb')"
    )

    with timestore.connect(url) as client:
        assert client.sweep() == {"condemned": 0, "deleted": 1, "left": {}}
        assert client.sweep() == {"condemned": 0, "deleted": 0, "left": {}}

    assert not path.exists()
