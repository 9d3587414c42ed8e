"""After `abandon`, a client knows for certain what became of an append."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

import timestore
from catalog.connections import Connections
from catalog.lifecycle import Lifecycle
from catalog.records import Outcome
from tests.fixtures.actions import act_one
from tests.fixtures.catalog_rows import commit, creation, new_append, new_slice, next_plan, open_ledger
from tests.fixtures.data import cpu_table
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import wait_until
from timestore.errors import ConflictError, NotFoundError, TimestoreError


def test_abandoned_key_never_commits(server_url: str, client: timestore.Client) -> None:
    """An abandoned key refuses every put, says so to `receipt`, and may be abandoned again; other keys go on."""
    client.append("cpu", cpu_table(10), idempotency_key="first")

    answers = [act_one(server_url, "abandon", dataset="cpu", idempotency_key="a") for _ in range(2)]

    assert answers == [{"dataset": "cpu", "idempotency_key": "a", "abandoned": True, "receipt": None}] * 2
    with pytest.raises(ConflictError) as caught:
        client.append("cpu", cpu_table(10), idempotency_key="a")
    assert caught.value.kind == "idempotency_abandoned"
    with pytest.raises(ConflictError, match="idempotency_abandoned"):
        client.receipt("cpu", "a")
    assert client.append("cpu", cpu_table(10), idempotency_key="b").version == 2


def test_abandoning_what_has_committed_gives_its_receipt(server_url: str, client: timestore.Client) -> None:
    """A key whose append has committed is not fenced: the answer is the receipt, and a retry is still a replay."""
    receipt = client.append("cpu", cpu_table(10), idempotency_key="a")

    answer = act_one(server_url, "abandon", dataset="cpu", idempotency_key="a")

    assert (answer["abandoned"], answer["receipt"]) == (False, receipt.as_json())
    assert client.append("cpu", cpu_table(10), idempotency_key="a").replayed


def test_abandon_needs_a_dataset(server_url: str) -> None:
    """Without the dataset there is nothing to fence a key in."""
    with pytest.raises(NotFoundError) as caught:
        act_one(server_url, "abandon", dataset="cpu", idempotency_key="a")

    assert caught.value.kind == "dataset_not_found"


def test_running_put_is_fenced(server_url: str, client: timestore.Client) -> None:
    """A put that is under way when its key is abandoned is refused at its end, and leaves no row and no intent."""
    client.append("cpu", cpu_table(10))
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), cpu_table(1).schema)
    assert put.answer() is not None
    put.send(cpu_table(100))

    assert act_one(server_url, "abandon", dataset="cpu", idempotency_key="a")["abandoned"]
    put.mark_end(100)

    with pytest.raises(ConflictError, match="idempotency_abandoned"):
        put.finish()
    assert client.describe("cpu")["rows"] == 10
    assert client.stats()["intents"] == 0


@pytest.mark.parametrize("put_first", [True, False])
def test_commit_against_abandon(
    put_first: bool, connections: Connections, postgres_dsn: str, catalog_schema: str
) -> None:
    """Both wait for the dataset at the same time: the first of them wins, and the other hears of it."""
    ledger = open_ledger(connections)
    commit(ledger, creation("cpu"), [])
    dataset = ledger.find_dataset("cpu")
    assert dataset is not None
    lifecycle = Lifecycle(connections=connections)
    calls = [
        lambda: commit(ledger, next_plan(dataset), [new_append([new_slice("a", 0)], "k")])[0].outcome,
        lambda: lifecycle.abandon(dataset, "k"),
    ]
    order = [0, 1] if put_first else [1, 0]
    with psycopg.connect(postgres_dsn) as holding, ThreadPoolExecutor(2) as pool:
        holding.execute(sql.SQL("SELECT FROM {} FOR UPDATE").format(sql.Identifier(catalog_schema, "dataset_heads")))
        results = {}
        for number, which in enumerate(order, start=1):
            results[which] = pool.submit(calls[which])
            _wait_for_waiting(postgres_dsn, number)
        holding.rollback()
        outcome, receipt = results[0].result(30), results[1].result(30)

    assert (outcome is Outcome.COMMITTED) == (receipt is not None) == put_first
    assert outcome in (Outcome.COMMITTED, Outcome.ABANDONED)
    assert ledger.find_dataset("cpu").totals.rows == (10 if put_first else 0)  # type: ignore[union-attr]


def test_puts_against_abandons(server_url: str, client: timestore.Client) -> None:
    """Through the wire, again and again: either the put has its receipt and so has abandon, or neither."""
    client.append("cpu", cpu_table(1))
    for number in range(15):
        key = f"k{number}"
        put = RawPut(server_url, command(dataset="cpu", idempotency_key=key), cpu_table(1).schema)
        assert put.answer() is not None
        put.send(cpu_table(1))
        put.mark_end(1)
        barrier = threading.Barrier(2)

        def finish(put: RawPut = put, barrier: threading.Barrier = barrier) -> object:
            barrier.wait()
            try:
                return put.finish()
            except TimestoreError as failure:
                return failure.kind

        with ThreadPoolExecutor(1) as pool:
            finished = pool.submit(finish)
            barrier.wait()
            answer = act_one(server_url, "abandon", dataset="cpu", idempotency_key=key)
            result = finished.result(30)
        assert result == (answer["receipt"] or "idempotency_abandoned")


def _wait_for_waiting(dsn: str, sessions: int) -> None:
    """Wait until so many sessions wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'timestore'"
    with psycopg.connect(dsn, autocommit=True) as connection:
        wait_until(lambda: connection.execute(query).fetchone() == (sessions,))
