"""Holes that somebody found by trying, each closed for good."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

import timestore
from catalog.connections import Connections
from tests.fixtures.data import START, cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import StartService
from timestore.errors import InvalidInputError, TimestoreError


def _wide(rows: int, width: int) -> pa.Table:
    stamps = pa.array(START + np.arange(rows, dtype=np.int64), pa.timestamp("us", "UTC"))
    return pa.table({"ts": stamps, "text": pa.array([f"{row:07d}" * (width // 7) for row in range(rows)])})


@pytest.mark.parametrize(("rows", "width"), [(30_000, 3_000), (3_000, 40_000)])
def test_what_was_taken_can_be_read(start_service: StartService, rows: int, width: int) -> None:
    """Rows of any width that a server took with its memory budget, it can also give back."""
    sent = _wide(rows, width)
    with timestore.connect(start_service(memory_budget="256MiB").url) as client:
        client.append("wide", sent)

        assert client.read("wide").equals(sent)


def test_a_lost_commit_that_lands_late_keeps_its_files(
    start_service: StartService, proxy: PostgresProxy, connections: Connections, tmp_path: Path
) -> None:
    """A commit whose connection broke, and which then holds the lock for long, loses no file of what it commits."""
    with timestore.connect(start_service(catalog_dsn=proxy.dsn).url, retries=False) as client:
        client.append("cpu", cpu_table(10))
        with connections.connection() as connection:
            connection.execute(
                "CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_sleep(12); RETURN NULL; END $$"
            )
            connection.execute("CREATE TRIGGER stall AFTER INSERT ON versions EXECUTE FUNCTION stall()")
        proxy.cut_at_once(b"SELECT commit_appends(")

        receipt = client.append("cpu", cpu_table(10, offset=10), idempotency_key="a")

        assert (receipt.version, receipt.replayed) == (2, False)
        assert client.read("cpu").num_rows == 20
        assert len(published_files(tmp_path / "data")) == 2


def test_given_up_files_are_not_committed(start_service: StartService, connections: Connections) -> None:
    """A put whose intents were condemned is refused as fenced, and leaves nothing."""
    url = start_service().url
    put = RawPut(url, command(dataset="cpu", end="eof"), cpu_table(1).schema)
    put.answer()
    with connections.connection() as connection:
        connection.execute(
            "CREATE FUNCTION condemn() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.condemned_at = now(); RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER condemn BEFORE INSERT ON intents FOR EACH ROW EXECUTE FUNCTION condemn()")
    put.send(cpu_table(10))

    with pytest.raises(TimestoreError) as caught:
        put.finish()

    assert caught.value.kind == "fenced"
    with timestore.connect(url) as client:
        assert client.datasets() == []


def test_two_servers_two_roots_is_refused(start_service: StartService, tmp_path: Path) -> None:
    """A second server with another storage root on one catalog takes no put, even before the first file."""
    first, second = start_service(), start_service(storage_url=str(tmp_path / "elsewhere"))

    with timestore.connect(second.url, retries=False) as client, pytest.raises(TimestoreError) as caught:
        client.append("cpu", cpu_table(10))

    assert caught.value.kind == "fenced"
    with timestore.connect(first.url) as client:
        assert client.append("cpu", cpu_table(10)).version == 1


def test_tiny_batches_are_counted_and_joined(start_service: StartService) -> None:
    """A stream of many one-row batches lands in order, in one file per window."""
    sent = cpu_table(20_000, step_s=1)
    with timestore.connect(start_service().url) as client:
        receipt = client.append("cpu", pa.Table.from_batches(sent.to_batches(max_chunksize=1)))

        assert receipt.files_total == 1
        assert client.read("cpu").equals(sent)


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("list_datasets", {"cursor": ["\0"]}),
        ("manifest", {"dataset": "cpu", "cursor": ["2026-01-01T00:00:00Z", "\0", "1", "1"]}),
        ("manifest", {"dataset": "cpu", "cursor": ["2026-01-01T00:00:00Z", "", str(2**63), "1"]}),
        ("manifest", {"dataset": "cpu", "version": -1}),
        ("history", {"dataset": "cpu", "cursor": ["x"]}),
    ],
)
def test_bad_bodies_are_the_callers_fault(client: timestore.Client, action: str, body: dict[str, object]) -> None:
    """A body that no page gave is `descriptor_invalid`, never `internal`."""
    client.append("cpu", cpu_table(1))

    with pytest.raises(InvalidInputError) as caught:
        list(client._action(action, body))

    assert caught.value.kind == "descriptor_invalid"


def test_columns_named_twice_are_refused(client: timestore.Client) -> None:
    """A read that names a column twice is refused, not answered with nulls."""
    client.append("cpu", cpu_table(1))

    with pytest.raises(InvalidInputError):
        client.read("cpu", columns=["up", "up"])


def test_times_need_a_zone(client: timestore.Client) -> None:
    """The client refuses a naive time: it would mean another instant on every machine."""
    client.append("cpu", cpu_table(1))

    with pytest.raises(InvalidInputError):
        client.read("cpu", start=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_readers_own_failure_is_not_hidden(client: timestore.Client) -> None:
    """When the caller's data fail half way, the caller sees that very failure; nothing is stored."""
    sent = cpu_table(10)

    def batches():
        yield from sent.to_batches()
        raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        client.append("cpu", pa.RecordBatchReader.from_batches(sent.schema, batches()))

    assert client.datasets() == []


def test_options_are_compared_by_meaning(client: timestore.Client) -> None:
    """`24h` is `1d`, and a put may state one of two bounds; contradictions and empty ranges are refused."""
    bounds = {"min": "2025-01-01T00:00:00Z", "max": "2027-01-01T00:00:00+00:00"}
    client.append("cpu", cpu_table(1), create={"window": "24h", **bounds})
    client.append("cpu", cpu_table(1), create={"window": "1d", "min": "2025-01-01T01:00:00+01:00"})

    with pytest.raises(TimestoreError) as caught:
        client.append("cpu", cpu_table(1), create={"max": "2028-01-01T00:00:00Z"})
    assert caught.value.kind == "dataset_exists"
    with pytest.raises(TimestoreError) as caught:
        client.append("new", cpu_table(1), create={"min": bounds["max"], "max": bounds["min"]})
    assert caught.value.kind == "descriptor_invalid"


def test_a_database_of_another_encoding_is_refused(start_service: StartService, postgres_dsn: str) -> None:
    """A catalog must be able to hold any text: other encodings than UTF-8 are refused at start."""
    name = f"ascii_{datetime.now(UTC):%H%M%S%f}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        query = "CREATE DATABASE {} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
        connection.execute(sql.SQL(query).format(sql.Identifier(name)))

    with pytest.raises(TimestoreError, match="UTF8 is needed"):
        start_service(catalog_dsn=psycopg.conninfo.make_conninfo(postgres_dsn, dbname=name))
