"""Running totals are what counting would say."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from catalog.connections import Connections
from catalog.lifecycle import Lifecycle
from catalog.migrate import known_migrations, migrate
from catalog.records import NewAppend, Outcome
from tests.fixtures.catalog_rows import commit, creation, new_append, new_slice, next_plan, open_ledger, today
from timestore.datasets import Limits, Totals
from timestore.identifiers import uuid7

EXPIRE = "expire"
_SLICES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(1, 9)), max_size=4)
_STEPS = st.lists(st.one_of(st.just(EXPIRE), st.lists(_SLICES, min_size=1, max_size=5)), max_size=5)


def _counted(dsn: str, schema: str, name: str) -> Totals:
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint, "
        "count(DISTINCT (window_start, key)) FROM {slices} JOIN {datasets} USING (dataset_id) "
        "WHERE name = %s AND removed_version IS NULL AND dropped_at IS NULL"
    ).format(slices=sql.Identifier(schema, "slices"), datasets=sql.Identifier(schema, "datasets"))
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query, (name,)).fetchone()
    assert row is not None
    slices, rows, size, partitions = row
    return Totals(slices=slices, rows=rows, bytes=size, partitions=partitions)


def _append(slices: Sequence[tuple[str, int, int]], first_day: int = 0) -> NewAppend:
    return new_append([new_slice(site, first_day + day, rows=rows, size=rows * 100) for site, day, rows in slices])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_totals_equal_the_sums(
    steps: list[str | list[list[tuple[str, int, int]]]],
    connections: Connections,
    postgres_dsn: str,
    catalog_schema: str,
) -> None:
    """Whatever is appended, together or one by one, and expires: totals of a dataset are those of its slices."""
    ledger, lifecycle = open_ledger(connections), Lifecycle(connections=connections)
    name = f"d{uuid7()}"
    commit(ledger, creation(name, retention="2d"), [])
    for step in steps:
        dataset = ledger.find_dataset(name)
        assert dataset is not None
        if isinstance(step, str):
            lifecycle.expire(dataset.spec.incarnation)
        else:  # the first days are past retention, the last are not
            commit(ledger, next_plan(dataset), [_append(slices, today() - 4) for slices in step])

    dataset = ledger.find_dataset(name)

    assert dataset is not None
    assert dataset.totals == _counted(postgres_dsn, catalog_schema, name)


def test_totals_of_a_catalog_from_before(postgres_dsn: str, catalog_schema: str) -> None:
    """A catalog that a server of the version before has filled gets its totals and its keys when it is migrated."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(catalog_schema)))
        connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(catalog_schema)))
        connection.execute(
            "CREATE TABLE schema_migrations (number integer PRIMARY KEY, name text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        for migration in known_migrations()[:2]:
            connection.execute(migration.script)
            connection.execute("INSERT INTO schema_migrations VALUES (%s, %s)", (migration.number, migration.name))
    with Connections(dsn=lambda: postgres_dsn, schema=catalog_schema) as connections:
        connections.open(timeout_s=10)
        ledger = open_ledger(connections)
        commit(ledger, creation("cpu"), [_append([("a", 0, 5), ("a", 1, 6)]), _append([("b", 1, 7), ("a", 0, 8)])])

        migrate(postgres_dsn, catalog_schema)

        dataset = ledger.find_dataset("cpu")
        assert dataset is not None
        assert dataset.totals == Totals(slices=4, rows=26, bytes=2_600, partitions=3)
        commit(ledger, next_plan(dataset), [_append([("b", 1, 1), ("c", 1, 1)])])
        assert ledger.find_dataset("cpu").totals == _counted(postgres_dsn, catalog_schema, "cpu")  # type: ignore[union-attr]
        keys = connections.read("find_keys", {"dataset_id": dataset.dataset_id, "parts": '{"site": "a"}', "limit": 5})
        assert keys == [('{"site":"a"}',)]


@pytest.mark.parametrize("puts", [2, 8])
def test_limit_holds_for_puts_at_once(puts: int, connections: Connections) -> None:
    """Puts that commit at the same time never pass max_bytes together: as many fit as fit, the others are full."""
    ledger = open_ledger(connections)
    commit(ledger, creation("cpu", Limits(max_bytes=1_000)), [])
    dataset = ledger.find_dataset("cpu")
    assert dataset is not None

    def put(number: int) -> Outcome:
        return commit(ledger, next_plan(dataset), [new_append([new_slice(f"s{number}", 0, size=600)])])[0].outcome

    with ThreadPoolExecutor(puts) as pool:
        outcomes = list(pool.map(put, range(puts)))

    assert sorted(outcomes) == sorted([Outcome.COMMITTED] + [Outcome.FULL] * (puts - 1))
    assert ledger.find_dataset("cpu").totals.bytes == 600  # type: ignore[union-attr]


def test_group_skips_what_does_not_fit(connections: Connections) -> None:
    """Of appends that commit together, one that does not fit is full, and its smaller neighbours commit."""
    ledger = open_ledger(connections)
    plan = creation("cpu", Limits(max_bytes=1_000))
    sizes = (700, 400, 300)

    outcomes = commit(ledger, plan, [new_append([new_slice("a", 0, size=size)]) for size in sizes])

    assert [outcome.outcome for outcome in outcomes] == [Outcome.COMMITTED, Outcome.FULL, Outcome.COMMITTED]
    assert outcomes[1].visible_bytes == 700
