"""Windows expire as a version; history is cut off later; bytes go last, and nothing is lost track of."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from psycopg import sql

import timestore
from catalog.connections import Connections
from catalog.lifecycle import Lifecycle
from storage.local import LocalStore
from storage.targets import Targets
from tests.fixtures.actions import act_one
from tests.fixtures.catalog_rows import today
from tests.fixtures.data import cpu_table
from tests.fixtures.files import manifest_paths, published_files
from tests.fixtures.raw_put import typed
from tests.fixtures.server import StartService, wait_until
from timestore.errors import InvalidInputError, NotFoundError, RetryableError, error
from timestore.reading import ReadDescriptor
from writers.housekeeping import Housekeeping

NOW = timedelta(0)
TICKET = timedelta(hours=1)
DAY_US = 86_400 * 1_000_000
OLD = cpu_table(100)  # of 2026-01-01

Keep = Callable[..., None]


def recent(rows: int) -> pa.Table:
    """Rows of today."""
    start = today() * DAY_US
    return cpu_table(rows).set_column(0, "ts", pa.array(range(start, start + rows), pa.timestamp("us", "UTC")))


@pytest.fixture(name="keep_house")
def _keep_house(connections: Connections, tmp_path: Path) -> Keep:
    """Do what is due, by default as if all retentions had passed."""

    def keep(*, retention: timedelta = NOW, lifetime: timedelta = NOW, store: Any = None) -> None:
        Housekeeping(
            lifecycle=Lifecycle(connections=connections),
            targets=Targets(default=store or LocalStore(root=tmp_path / "data")),
            history_retention=retention,
            ticket_lifetime=lifetime,
            lease=timedelta(seconds=30),
        ).run()

    return keep


@pytest.fixture(name="count_rows")
def _count_rows(postgres_dsn: str, catalog_schema: str) -> Callable[[str], int]:
    def count(table: str) -> int:
        with psycopg.connect(postgres_dsn) as connection:
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(catalog_schema, table))
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    return count


def test_windows_expire_as_a_version(server_url: str, client: timestore.Client) -> None:
    """Windows that ended longer ago than the retention are gone at the next version, and at older ones still there."""
    client.append("cpu", OLD, create={"retention": "30d"})
    client.append("cpu", recent(10))

    answer = act_one(server_url, "expire", dataset="cpu")

    assert (answer["version"], answer["slices"], answer["rows"]) == (3, 1, 100)
    assert client.read("cpu").equals(recent(10))
    assert client.read("cpu", version=2).num_rows == 110
    assert client.history("cpu")[0] | {"committed_at": ""} == {
        "version": 3, "kind": "expire", "committed_at": "", "appends": 0, "rows": 100,
    }  # fmt: skip
    described = client.describe("cpu")
    assert (described["rows"], described["slices"], described["partitions"]) == (10, 1, 1)
    assert described["bytes"] == sum(item["bytes"] for item in client.manifest("cpu"))


def test_nothing_due_makes_no_version(server_url: str, client: timestore.Client) -> None:
    """Without retention, or without a window that is old enough, nothing happens."""
    client.append("cpu", OLD)
    client.append("young", recent(10), create={"retention": "1d"})

    assert act_one(server_url, "expire", dataset="cpu")["before"] is None
    assert act_one(server_url, "expire", dataset="young")["rows"] == 0
    assert [client.describe(name)["version"] for name in ("cpu", "young")] == [1, 1]


def test_retention_can_be_changed(server_url: str, client: timestore.Client) -> None:
    """`set_retention` says how long from now on, null for ever; a producer whose `create` says otherwise goes on."""
    create = {"retention": "36500d"}
    client.append("cpu", OLD, create=create)

    assert act_one(server_url, "set_retention", dataset="cpu", retention=None)["retention"] is None
    assert act_one(server_url, "set_retention", dataset="cpu", retention="12h")["retention"] == "12h"
    assert client.describe("cpu")["retention"] == "12h"
    assert client.append("cpu", recent(1), create=create).version == 2
    assert act_one(server_url, "expire", dataset="cpu")["rows"] == 100


@pytest.mark.parametrize("retention", ["", "30", "0d", "-1d", "1w", "1.5h", "40000d", "30d ", 30])
def test_senseless_retentions_are_refused(server_url: str, client: timestore.Client, retention: object) -> None:
    """A retention is a whole number of minutes, hours or days."""
    client.append("cpu", OLD)

    with pytest.raises(InvalidInputError) as caught:
        act_one(server_url, "set_retention", dataset="cpu", retention=retention)

    assert caught.value.kind == "descriptor_invalid"


def test_retention_must_be_said(server_url: str, client: timestore.Client) -> None:
    """A body without `retention` does not mean for ever."""
    client.append("cpu", OLD, create={"retention": "36500d"})

    with pytest.raises(InvalidInputError, match="retention"):
        act_one(server_url, "set_retention", dataset="cpu")

    assert client.describe("cpu")["retention"] == "36500d"


def test_late_rows_expire_in_their_turn(server_url: str, client: timestore.Client, keep_house: Keep) -> None:
    """Rows for a window that has expired are taken; the next round of housekeeping removes them."""
    client.append("cpu", OLD, create={"retention": "30d"})
    keep_house(retention=TICKET)
    client.append("cpu", OLD, idempotency_key="late")

    assert client.read("cpu").num_rows == 100
    keep_house(retention=TICKET)
    assert client.read("cpu").num_rows == 0
    assert [entry["kind"] for entry in client.history("cpu")] == ["expire", "append", "expire", "append"]


def test_bytes_go_after_the_history(
    client: timestore.Client, keep_house: Keep, tmp_path: Path, count_rows: Callable[[str], int]
) -> None:
    """Files of no version that can be read are deleted, and only these; their versions say that they have expired."""
    client.append("cpu", OLD, create={"retention": "30d"})
    client.append("cpu", recent(10))

    keep_house()

    assert published_files(tmp_path / "data") == manifest_paths(client, "cpu")
    assert client.read("cpu").equals(recent(10))
    assert client.describe("cpu")["oldest_version"] == 3
    with pytest.raises(NotFoundError) as caught:
        client.read("cpu", version=2)
    assert caught.value.kind == "version_expired"
    assert client.stats()["condemned_files"] == 0
    assert [count_rows(table) for table in ("slices", "holders", "slice_appends")] == [1, 1, 1]


def test_history_is_kept_as_long_as_the_setting_says(
    client: timestore.Client, keep_house: Keep, tmp_path: Path
) -> None:
    """Before the server's retention has passed, older versions are whole and every file is there."""
    client.append("cpu", OLD, create={"retention": "30d"})

    keep_house(retention=TICKET)

    assert client.read("cpu").num_rows == 0
    assert client.read("cpu", version=1).equals(OLD)
    assert len(published_files(tmp_path / "data")) == 1


def test_history_of_which_nothing_was_removed_is_kept(client: timestore.Client, keep_house: Keep) -> None:
    """A dataset that only grows can be read at every version for ever."""
    for number in range(3):
        client.append("cpu", cpu_table(10, offset=10 * number))

    keep_house()

    assert [client.read("cpu", version=version).num_rows for version in range(4)] == [0, 10, 20, 30]


def test_tickets_outlive_the_history(
    server_url: str, client: timestore.Client, keep_house: Keep, tmp_path: Path
) -> None:
    """What a ticket names stays for its lifetime when its version leaves the history, and then it says so."""
    client.append("cpu", OLD, create={"retention": "30d"})
    client.append("cpu", recent(10))
    with flight.FlightClient(server_url) as raw:
        command = ReadDescriptor(dataset="cpu").to_command()
        ticket = raw.get_flight_info(flight.FlightDescriptor.for_command(command)).endpoints[0].ticket

        keep_house(lifetime=TICKET)

        with pytest.raises(NotFoundError, match="version_expired"):
            client.read("cpu", version=2)
        assert raw.do_get(ticket).read_all().equals(OLD)
        assert len(published_files(tmp_path / "data")) == 2
        keep_house()
        with pytest.raises(flight.FlightError) as caught:
            raw.do_get(ticket).read_all()
        assert typed(caught.value).kind == "version_expired"


def test_dropped_dataset_leaves_nothing_but_its_name(
    server_url: str, client: timestore.Client, keep_house: Keep, tmp_path: Path, count_rows: Callable[[str], int]
) -> None:
    """Files and records of a dropped dataset stay for the retention, and go after it; a new one is not touched."""
    client.append("cpu", OLD, key={"a": "1"}, idempotency_key="k")
    act_one(server_url, "drop_dataset", dataset="cpu", confirm="cpu")
    client.append("cpu", recent(10), idempotency_key="k")

    keep_house(retention=TICKET)
    assert len(published_files(tmp_path / "data")) == 2
    keep_house()

    assert published_files(tmp_path / "data") == manifest_paths(client, "cpu")
    assert client.read("cpu").equals(recent(10))
    tables = ("slices", "holders", "slice_appends", "appends", "versions", "schema_versions", "dataset_keys")
    assert {table: count_rows(table) for table in tables} == dict.fromkeys(tables, 1)
    assert (count_rows("dataset_heads"), count_rows("datasets"), count_rows("condemned_files")) == (1, 2, 0)


class _BrokenStore(LocalStore):
    """A store that deletes nothing."""

    def delete(self, path: str) -> None:
        raise error("storage_unavailable", "the storage does not answer")


def test_what_was_not_deleted_is_deleted_later(client: timestore.Client, keep_house: Keep, tmp_path: Path) -> None:
    """A file that was condemned, but not deleted because the storage failed, is deleted by the next round."""
    client.append("cpu", OLD, create={"retention": "30d"})
    client.append("cpu", recent(10))

    with pytest.raises(RetryableError):
        keep_house(store=_BrokenStore(root=tmp_path / "data"))

    assert len(published_files(tmp_path / "data")) == 2
    assert client.stats()["condemned_files"] == 1
    keep_house()
    assert published_files(tmp_path / "data") == manifest_paths(client, "cpu")
    assert client.stats()["condemned_files"] == 0


def test_purging_goes_on_where_it_stopped(
    client: timestore.Client, connections: Connections, tmp_path: Path, keep_house: Keep
) -> None:
    """Died between any two transactions: the rest is still due. Here each transaction is a process of its own."""
    client.append("cpu", OLD, create={"retention": "30d"})
    client.append("cpu", recent(10))
    lifecycle = Lifecycle(connections=connections)
    [incarnation] = lifecycle.expirable()
    lifecycle.expire(incarnation)
    for _ in range(3):
        lifecycle.purge(retention=NOW, ticket_lifetime=NOW)
    [condemned] = lifecycle.condemned_files()
    (tmp_path / "data" / condemned.path).unlink()  # deleted, and died before it was forgotten

    keep_house()

    assert lifecycle.condemned_files() == []
    assert client.read("cpu").equals(recent(10))


def test_many_servers_keep_house_at_once(client: timestore.Client, keep_house: Keep, tmp_path: Path) -> None:
    """Servers that do all this at the same time neither disturb each other nor make a version each."""
    for number in range(20):
        client.append("cpu", cpu_table(5, offset=number * 10_000), create={"retention": "30d"})
    client.append("cpu", recent(10))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(keep_house) for _ in range(4)]:
            done.result(60)
    keep_house()

    assert [entry["kind"] for entry in client.history("cpu")].count("expire") == 1
    assert published_files(tmp_path / "data") == manifest_paths(client, "cpu")


def test_servers_keep_house_on_their_own(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask: a server expires windows at an interval, again and again."""
    monkeypatch.setattr("timestore_app.background.HOUSEKEEPING_INTERVAL_S", 0.05)
    with timestore.connect(start_service().url, retries=False) as client:
        client.append("cpu", OLD, create={"retention": "30d"})
        wait_until(lambda: client.describe("cpu")["rows"] == 0)

        client.append("cpu", OLD, idempotency_key="late")
        wait_until(lambda: client.describe("cpu")["rows"] == 0)

        assert [entry["kind"] for entry in client.history("cpu")] == ["expire", "append"] * 2


def test_server_with_a_foreign_storage_ends_nothing(start_service: StartService, tmp_path: Path) -> None:
    """A server whose storage is not its catalog's neither abandons, expires nor drops."""
    with timestore.connect(start_service().url, retries=False) as client:
        client.append("cpu", OLD, create={"retention": "30d"})
    foreign = start_service(storage_url=str(tmp_path / "elsewhere")).url
    bodies: dict[str, dict[str, Any]] = {
        "abandon": {"idempotency_key": "a"},
        "expire": {},
        "set_retention": {"retention": None},
        "drop_dataset": {"confirm": "cpu"},
    }

    for name, body in bodies.items():
        with pytest.raises(RetryableError) as caught:
            act_one(foreign, name, dataset="cpu", **body)
        assert caught.value.kind == "fenced"
