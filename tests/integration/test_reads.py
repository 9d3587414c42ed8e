"""Reads: at a version while puts go on, in order, over very many slices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import timestore
from catalog.connections import Connections
from catalog.manifests import Manifests
from catalog.migrate import migrate
from catalog.sql import QUERIES
from tests.fixtures.actions import act_one
from tests.fixtures.catalog_rows import commit, creation, new_append, new_slice, open_ledger
from tests.fixtures.data import cpu_table
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.server import StartService
from timestore.datasets import Dataset
from timestore.errors import InvalidInputError
from timestore.names import PartitionKey
from timestore.reading import ReadDescriptor, Selection, Ticket

WINDOWS, SITES = 1_000, 100


def _flights(url: str, criteria: bytes = b"") -> list[flight.FlightInfo]:
    with flight.FlightClient(url) as client:
        return list(client.list_flights(criteria))


@pytest.mark.capability("pyarrow.flight", "reads")
def test_every_dataset_is_a_flight(server_url: str, client: timestore.Client) -> None:
    """Each flight has schema, rows and bytes of a dataset, and its ticket and its descriptor give all of its rows."""
    for name, rows in (("cpu", 25_000), ("mem", 10)):
        client.append(name, cpu_table(rows), key={"site": name})
    client.create_dataset("empty", cpu_table(1).schema)

    flights = _flights(server_url)

    assert [json.loads(info.descriptor.command)["dataset"] for info in flights] == ["cpu", "empty", "mem"]
    assert [info.total_records for info in flights] == [25_000, 0, 10]
    assert [info.total_bytes for info in flights] == [client.describe(n)["bytes"] for n in ("cpu", "empty", "mem")]
    with flight.FlightClient(server_url) as raw:
        for info in flights:
            [endpoint] = info.endpoints
            table = raw.do_get(endpoint.ticket).read_all()
            assert table.schema.equals(info.schema)
            assert table.num_rows == info.total_records
            assert raw.get_flight_info(info.descriptor).total_records == info.total_records


def test_flights_by_prefix(server_url: str, client: timestore.Client) -> None:
    """Criteria choose by the beginning of the name, letter by letter."""
    for name in ("cpu", "cpu_eu", "Cpx", "c-pu", "mem"):
        client.create_dataset(name, cpu_table(1).schema)

    def names(**criteria: Any) -> list[str]:
        infos = _flights(server_url, json.dumps({"v": 1, **criteria}).encode())
        return [json.loads(info.descriptor.command)["dataset"] for info in infos]

    assert names(prefix="cpu") == ["cpu", "cpu_eu"]
    assert names(prefix="cpu_") == ["cpu_eu"]
    assert names(prefix="%") == []
    assert names() == names(prefix="") == ["Cpx", "c-pu", "cpu", "cpu_eu", "mem"]


@pytest.mark.parametrize(
    "criteria", [b"x", b"{}", b'{"v": 2}', b'{"v": 1, "other": 1}', b'{"v": 1, "prefix": 1}', b"\xff"]
)
def test_senseless_criteria_are_refused(server_url: str, criteria: bytes) -> None:
    """Criteria that are not understood are no listing of everything."""
    with pytest.raises(flight.FlightError, match="descriptor_invalid"):
        _flights(server_url, criteria)


def test_reads_at_a_version_while_puts_go_on(server_url: str, client: timestore.Client) -> None:
    """While others append, a read of the newest version sees whole puts only, and one at a version always the same."""
    rows, puts = 200, 10
    client.append("cpu", cpu_table(rows), key={"site": "0"})

    def append(site: int) -> None:
        with timestore.connect(server_url) as own:
            for number in range(puts):
                own.append("cpu", cpu_table(rows, offset=rows * number), key={"site": str(site)})

    with ThreadPoolExecutor(3) as pool:
        appending = [pool.submit(append, site) for site in range(1, 4)]
        seen = []
        while not all(each.done() for each in appending):
            version = client.describe("cpu")["version"]
            moment = datetime.fromisoformat(client.history("cpu")[0]["committed_at"])
            assert client.read("cpu", version=version).num_rows == version * rows
            assert client.read("cpu", as_of=moment).num_rows >= version * rows
            assert client.read("cpu", version=1).equals(cpu_table(rows))
            seen.append(client.read("cpu").num_rows)
        for each in appending:
            each.result()

    total = 1 + 3 * puts
    assert seen == sorted(seen)
    assert {count % rows for count in seen} == {0}
    for version in (2, total // 2, total):
        assert client.read("cpu", version=version).num_rows == version * rows


def test_rows_of_a_put_keep_their_order(start_service: StartService) -> None:
    """Rows of one partition come back in the order in which they were sent, however many files they fill."""
    url = start_service(memory_budget="256MiB", writer_threads=2).url
    rows = 1_500_000
    sent = pa.table(
        {
            "ts": pa.array([1_767_225_600_000_000] * rows, pa.timestamp("us", "UTC")),
            "number": pa.array(range(rows), pa.int64()),
            "text": pa.array([f"some text of some length {n % 7919}" for n in range(rows)], pa.string()),
        }
    )
    with timestore.connect(url) as client:
        receipt = client.append("cpu", sent, create={"order": "any"})
        read = client.read("cpu", columns=["number"])

    assert receipt.files_total > 1
    assert read.column("number").equals(sent.column("number"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """A catalog with a dataset of 100 000 slices, a thousand days of a hundred sites, without files."""

    schema: str
    connections: Connections
    dataset: Dataset


@pytest.fixture(name="many", scope="module")
def _many(postgres_dsn: str) -> Iterator[Many]:
    schema = f"many_{uuid4().hex}"
    migrate(postgres_dsn, schema)
    with Connections(dsn=lambda: postgres_dsn, schema=schema) as connections:
        connections.open(timeout_s=10)
        ledger = open_ledger(connections)
        commit(ledger, creation("cpu"), [new_append([new_slice("0", 0)])])
        dataset = ledger.find_dataset("cpu")
        assert dataset is not None
        with connections.connection() as connection:
            parameters = {"dataset_id": dataset.dataset_id, "windows": WINDOWS - 1, "sites": SITES - 1}
            for statement in _FILLING:
                connection.execute(statement, parameters if "%(" in statement else None)
        yield Many(schema=schema, connections=connections, dataset=dataset)


_FILLING = (
    """
    CREATE TEMP TABLE many AS
    SELECT gen_random_uuid() AS holder_id, day, site, '{"site":"' || site || '"}' AS key,
           day * 86400000000000::numeric AS ns
    FROM generate_series(0, %(windows)s) AS day, generate_series(0, %(sites)s) AS site
    WHERE day > 0 OR site > 0
    """,
    """
    INSERT INTO holders (holder_id, dataset_id, form, storage, path, bytes, checksum, created_at)
    SELECT holder_id, %(dataset_id)s, 'duckdb', 'default', holder_id::text, 1000, 'xxh3:0', now() FROM many
    """,
    """
    INSERT INTO slices (dataset_id, holder_id, key, window_start, window_end, schema_version, rows, bytes, min_ts_ns,
                        max_ts_ns, digest, added_version)
    SELECT %(dataset_id)s, holder_id, key, to_timestamp(day * 86400), to_timestamp((day + 1) * 86400), 1, 10, 1000, ns,
           ns + 10, 'd1:0', 1
    FROM many
    """,
    "INSERT INTO dataset_keys SELECT DISTINCT %(dataset_id)s::bigint, key, key::jsonb FROM many ON CONFLICT DO NOTHING",
    "ANALYZE slices",
    "ANALYZE holders",
    "ANALYZE dataset_keys",
)  # fmt: skip


def test_hundred_thousand_slices(start_service: StartService, proxy: PostgresProxy, many: Many) -> None:
    """A FlightInfo over 100 000 slices has 1 000 endpoints that cover all of them, in order, for few statements."""
    url = start_service(catalog_dsn=proxy.dsn, catalog_schema=many.schema).url
    with flight.FlightClient(url) as client:
        descriptor = flight.FlightDescriptor.for_command(ReadDescriptor(dataset="cpu").to_command())
        client.get_schema(descriptor)  # the pool has its connection
        statements = []
        for _ in range(3):  # what a server does beside it, now and then, counts too
            before = proxy.statements
            info = client.get_flight_info(descriptor)
            statements.append(proxy.statements - before)

    assert min(statements) <= 8  # with those that check a connection before it is lent
    assert len(info.endpoints) == 1_000
    assert len(info.serialize()) < 1 << 20
    assert (info.total_records, info.total_bytes) == (WINDOWS * SITES * 10, WINDOWS * SITES * 1_000)
    tickets = [Ticket.parse(endpoint.ticket.ticket) for endpoint in info.endpoints]
    positions = [(p.window_start, p.key) for t in tickets for p in (t.first, t.last) if p is not None]
    assert len(positions) == 2_000
    assert positions == sorted(positions)
    manifests = Manifests(connections=many.connections)
    for ticket in tickets[::333]:
        slices = list(manifests.all_slices(many.dataset, 1, Selection(), first=ticket.first, last=ticket.last))
        assert len(slices) == WINDOWS * SITES // 1_000
    page = act_one(url, "manifest", dataset="cpu", limit=500, **{"from": "1971-01-01T00:00:00Z"})
    assert page["items"][0]["window"][0] == "1971-01-01T00:00:00Z"


@pytest.mark.parametrize("query", ["list_slices", "group_partitions"])
@pytest.mark.parametrize("days", [None, 1, 30])
@pytest.mark.parametrize("site", [None, "7"])
def test_filters_use_an_index(query: str, days: int | None, site: str | None, many: Many) -> None:
    """A read of some keys or some days touches what it selects, not what there is."""
    start = datetime(1971, 6, 1, 12, tzinfo=UTC)
    selection = Selection(
        key=PartitionKey.parse({"site": site} if site else {}),
        start=start if days else None,
        end=start + timedelta(days=days) if days else None,
    )

    touched = _rows_touched(many, selection, query)

    selected = (days + 1 if days else WINDOWS) * (1 if site else SITES)  # it begins in the middle of a day
    if query == "list_slices" and site is None:
        selected = min(selected, 501 + SITES)  # a page in the order of the index, from the first day's start
    assert 0 < touched <= selected


def _rows_touched(many: Many, selection: Selection, query: str) -> int:
    """How many slices the database looked at, by its own account."""
    filters = Manifests(connections=many.connections)._filters(many.dataset, 1, selection)
    paging = {
        "after_window": filters["first_window"], "after_key": "", "after_version": -1, "after_slice": -1,
        "last_window": None, "last_key": None, "limit": 501, "groups": 1_000,
    }  # fmt: skip
    with many.connections.connection() as connection:
        connection.execute("SET plan_cache_mode = force_custom_plan")
        row = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + QUERIES[query], filters | paging).fetchone()
    assert row is not None
    return _count(row[0][0]["Plan"])


def _count(plan: dict[str, Any]) -> int:
    own = 0
    if plan.get("Relation Name") == "slices":
        own = int((plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"])
    return own + sum(_count(child) for child in plan.get("Plans", []))


def test_reads_given_up_free_their_place(server_url: str, client: timestore.Client) -> None:
    """Clients that open as many streams as may run, and leave them, do not keep others from reading."""
    client.append("cpu", cpu_table(200_000))
    with flight.FlightClient(server_url) as raw:
        info = raw.get_flight_info(flight.FlightDescriptor.for_command(ReadDescriptor(dataset="cpu").to_command()))
        left = [raw.do_get(info.endpoints[0].ticket) for _ in range(8)]
        for reader in left:
            reader.read_chunk()
            reader.cancel()
        assert client.read("cpu").num_rows == 200_000


def test_with_key_and_range_over_filters(client: timestore.Client) -> None:
    """Key subset and time range, through the index: exactly the rows that a filter over everything keeps."""
    for region in ("eu", "us"):
        for site in ("1", "2"):
            client.append(
                "cpu", cpu_table(2_000, step_s=600), key={"region": region, "site": site}, create={"window": "1d"}
            )
    start, end = datetime(2026, 1, 3, 0, 5, tzinfo=UTC), datetime(2026, 1, 5, 12, tzinfo=UTC)

    read = client.read("cpu", key={"region": "eu"}, start=start, end=end, with_key=True)

    per_site = cpu_table(2_000, step_s=600).to_pandas().query("@start <= ts < @end")
    assert read.num_rows == 2 * len(per_site)
    assert set(read.column("region").to_pylist()) == {"eu"}
    assert set(read.column("site").to_pylist()) == {"1", "2"}


@pytest.mark.parametrize("window", ["1h", "1d", "week", "month", "year"])
@pytest.mark.parametrize("start", ["0001-01-01T00:00:00Z", "2026-01-10T12:00:01Z", "9999-12-31T23:59:59Z"])
def test_any_instant_may_begin_a_range(client: timestore.Client, window: str, start: str) -> None:
    """A range may begin anywhere in the calendar, whatever the windows."""
    client.append("cpu", cpu_table(40, step_s=43_200), create={"window": window})
    moment = datetime.fromisoformat(start)

    read = client.read("cpu", start=moment)

    expected = cpu_table(40, step_s=43_200).to_pydict()["ts"]
    assert read.num_rows == sum(stamp >= moment for stamp in expected)


def test_with_key_is_no_filter(client: timestore.Client, server_url: str) -> None:
    """A manifest takes what selects files; columns and with_key are of a read, and refused."""
    client.append("cpu", cpu_table(1))
    for field, value in (("columns", ["ts"]), ("with_key", True)):
        with pytest.raises(InvalidInputError, match=field):
            act_one(server_url, "manifest", dataset="cpu", **{field: value})
