"""SQL over datasets: what it sees, at which version, and what it must not be able to do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

import timestore
from tests.fixtures.data import START, cpu_table
from tests.fixtures.server import ServerProcess, wait_until
from timestore.errors import InvalidInputError, NotFoundError, OverloadedError
from timestore_app.reading_side import SQL_QUERIES
from timestore_app.service import Service

ROWS = cpu_table(20_000)  # three days
HOSTILE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM query('FROM read_blob(''/etc/passwd'')')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT getenv('PATH')",
    "COPY (SELECT 1) TO '{tmp}/out'",
    "COPY cpu TO '{tmp}/out' (FORMAT parquet)",
    "EXPORT DATABASE '{tmp}/out'",
    "ATTACH '{tmp}/out'",
    "INSTALL httpfs",
    "LOAD '{tmp}/out.duckdb_extension'",
    "PRAGMA database_list",
    "PRAGMA memory_limit='100GB'",
    "SET memory_limit='100GB'",
    "RESET ALL",
    "CALL pragma_version()",
    "CREATE TABLE x AS SELECT 1",
    "INSERT INTO cpu SELECT * FROM cpu",
    "UPDATE cpu SET usage = 0",
    "DELETE FROM cpu",
    "DELETE FROM d0_0.data",
    "DROP VIEW cpu",
    "DETACH d0_0",
    "CHECKPOINT",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{tmp}/out'",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT * FROM connection",
    "SELECT * FROM task",
    "SELECT $1",
    "SELEC 1",
    "",
    ";",
    "SELECT * FROM nothing",
    "SELECT nothing FROM cpu",
    "SELECT 1/0::INT + 'x'::INT",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "\0",
]
ENDLESS = "SELECT count(*) FROM range(1000000000000) a, range(1000000) b"


def running_queries(server_pid: int) -> list[psutil.Process]:
    """Find the processes of the queries that a server runs."""
    queries = []
    for child in psutil.Process(server_pid).children():
        with suppress(psutil.NoSuchProcess):
            if "readers.sql_process" in " ".join(child.cmdline()):
                queries.append(child)
    return queries


@pytest.fixture(name="filled")
def _filled(client: timestore.Client) -> timestore.Client:
    client.append("cpu", ROWS, key={"region": "eu", "site": "12"})
    client.append("cpu", ROWS.slice(0, 5_000), key={"region": "us", "site": "it's 7"})
    return client


def _value(client: timestore.Client, query: str, **options: object) -> object:
    [row] = client.sql(query, **options).to_pylist()  # type: ignore[arg-type]
    [value] = row.values()
    return value


def test_rows_and_key_columns(filled: timestore.Client) -> None:
    """A dataset is a table of its name; the key's parts are text columns after its own."""
    assert filled.sql("FROM cpu LIMIT 1").column_names == [*ROWS.column_names, "region", "site"]
    assert filled.sql("SELECT region, site, count(*) AS n FROM cpu GROUP BY ALL ORDER BY ALL").to_pylist() == [
        {"region": "eu", "site": "12", "n": 20_000},
        {"region": "us", "site": "it's 7", "n": 5_000},
    ]


def test_values_are_those_that_were_sent(filled: timestore.Client) -> None:
    """Every value of every row comes through SQL as it was sent."""
    found = filled.sql("SELECT * EXCLUDE (region, site) FROM cpu WHERE region = 'eu' ORDER BY ts")

    assert found.cast(ROWS.schema).equals(ROWS)


def test_versions(filled: timestore.Client) -> None:
    """A query sees exactly the version it asks for, by number or by time, in the columns of that version."""
    before = datetime.now(UTC)
    wider = ROWS.append_column("extra", pa.array([1] * 20_000, pa.int32()))
    filled.append("cpu", wider, key={"region": "eu", "site": "12"})
    filled.append("mem", ROWS)

    count = "SELECT count(*) FROM cpu"
    assert [_value(filled, count, version=version) for version in (0, 1, 2, 3)] == [0, 20_000, 25_000, 45_000]
    assert _value(filled, count, as_of=before) == 25_000
    assert "extra" not in filled.sql("FROM cpu LIMIT 0", version=2).column_names
    assert _value(filled, "SELECT count(extra) FROM cpu") == 20_000
    both = "SELECT (SELECT count(*) FROM cpu) + (SELECT count(*) FROM mem)"
    assert _value(filled, both, versions={"cpu": 1, "mem": 1}) == 40_000
    with pytest.raises(InvalidInputError, match="versions"):
        filled.sql(both, version=1)
    with pytest.raises(InvalidInputError, match="reads nothing"):
        filled.sql(count, versions={"mem": 1})
    with pytest.raises(NotFoundError, match="version 9"):
        filled.sql(count, version=9)


def test_widened_columns(client: timestore.Client) -> None:
    """Files written before a column was widened have the wider type in SQL too."""
    ts = pa.array([START], pa.timestamp("us", "UTC"))
    client.append("n", pa.table({"ts": ts, "v": pa.array([1], pa.int8())}))
    client.append("n", pa.table({"ts": ts, "v": pa.array([70_000], pa.int32())}))

    assert client.sql("SELECT v FROM n ORDER BY v").column("v").type == pa.int32()
    assert _value(client, "SELECT sum(v) FROM n") == Decimal(70_001)


def test_types_in_sql(client: timestore.Client) -> None:
    """What SQL sees of the Arrow types: zones become UTC, zoned nanoseconds come without a zone."""
    client.append(
        "t",
        pa.table(
            {
                "ts": pa.array([START * 1_000 + 1], pa.timestamp("ns", "Europe/Paris")),
                "paris": pa.array([START], pa.timestamp("us", "Europe/Paris")),
                "plain": pa.array([START // 1_000], pa.timestamp("ms")),
                "text": pa.array(["x"], pa.large_string()),
            }
        ),
        create={"timestamp_column": "ts"},
    )

    found = client.sql("FROM t")

    assert found.schema.types == [pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("ms"), pa.string()]
    assert found.column("ts").cast(pa.int64()).to_pylist() == [START * 1_000 + 1]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM cpu a JOIN cpu b USING (ts, region, site)",
        'SELECT count(*) FROM "CPU"',
        "WITH cpu AS (SELECT 1 AS x) SELECT 25000 FROM cpu",
        "FROM (SELECT count(*) FROM main.cpu)",
        "SELECT count(*) FROM cpu WHERE ts IN (SELECT ts FROM cpu) -- ; and a comment",
    ],
)
def test_ways_to_name_a_dataset(filled: timestore.Client, query: str) -> None:
    """Joins with itself, other case, subqueries and names hidden by WITH all mean what they say."""
    assert _value(filled, query) == 25_000


def test_describe_and_summarize(filled: timestore.Client) -> None:
    """``DESCRIBE`` and ``SUMMARIZE`` work, as a person at a prompt expects."""
    assert filled.sql("DESCRIBE cpu").column("column_name").to_pylist() == [*ROWS.column_names, "region", "site"]
    assert filled.sql("SUMMARIZE cpu").num_rows == 7


@pytest.mark.parametrize("parts", [1, 1_000])
def test_dataset_of_many_files(client: timestore.Client, parts: int) -> None:
    """A dataset of a thousand files is one table."""
    days = cpu_table(parts, step_s=86_400)
    client.append("cpu", days, create={"window": "1d"})

    assert client.describe("cpu")["slices"] == parts
    assert client.sql("SELECT count(*) AS n, sum(errors) AS e FROM cpu").to_pylist() == [
        {"n": parts, "e": sum(days["errors"].to_pylist())}
    ]


def test_hostile_queries_are_refused(filled: timestore.Client, tmp_path: Path) -> None:
    """Files, settings, writes, other statements and several at once are refused; nothing happens, and all goes on."""
    (tmp_path / "out.duckdb_extension").write_bytes(b"")
    for query in HOSTILE:
        with pytest.raises(InvalidInputError) as caught:
            raise AssertionError(f"{query} gave {filled.sql(query.replace('{tmp}', str(tmp_path)))}")

        assert caught.value.kind == "query_invalid", query
        assert not (tmp_path / "out").exists()
    assert _value(filled, "SELECT count(*) FROM cpu") == 25_000


@pytest.mark.parametrize(
    "query",
    [
        ENDLESS,
        "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT max(i) FROM t",
        "SELECT sum(a.errors * b.errors * c.errors) FROM cpu a, cpu b, cpu c",
    ],
)
def test_endless_queries_end(filled: timestore.Client, query: str) -> None:
    """A query that would never end is ended at its time limit, which is an error that is not repeated."""
    started = time.monotonic()

    with pytest.raises(InvalidInputError) as caught:
        filled.sql(query, timeout_s=3)

    assert caught.value.kind == "query_too_expensive"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "query",
    [
        "SELECT list(i) FROM range(1000000000) t(i)",
        "SELECT repeat('x', 4000000000)",
        "SELECT string_agg(repeat('x', 1000000), '') FROM range(100000)",
        "SELECT * FROM (SELECT unnest(range(100000000)) AS i) ORDER BY hash(i)",
    ],
)
def test_greedy_queries_are_refused(filled: timestore.Client, query: str) -> None:
    """A query that wants all memory fails alone: the server goes on, and does not grow."""
    before = psutil.Process().memory_info().rss

    with pytest.raises(InvalidInputError) as caught:
        filled.sql(query)

    assert caught.value.kind in {"query_too_expensive", "query_invalid"}
    assert psutil.Process().memory_info().rss - before < 200 << 20
    assert _value(filled, "SELECT count(*) FROM cpu") == 25_000


def test_huge_results_stream(filled: timestore.Client) -> None:
    """A result far larger than memory streams, and can be left at any row; ``max_rows`` refuses it instead."""
    endless = "SELECT i, repeat('x', 100) AS text FROM range(100000000000) t(i)"
    batches = filled.sql_batches(endless)
    rows = 0
    while rows < 1_000_000:
        rows += batches.read_next_batch().num_rows
    del batches

    with pytest.raises(InvalidInputError, match="max_rows"):
        filled.sql(endless, max_rows=1_000)
    assert filled.sql("SELECT 1", max_rows=1).num_rows == 1


def test_only_so_many_queries_at_once(start_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the number of queries that may run at once the answer is ``overloaded``, with a delay; places come back."""
    monkeypatch.setattr("readers.query_places.ACQUIRE_TIMEOUT_S", 0.1)
    url = start_service().url
    with timestore.connect(url, retries=False) as client:

        def run() -> None:
            with pytest.raises(InvalidInputError):
                client.sql(ENDLESS, timeout_s=5)

        threads = [threading.Thread(target=run) for _ in range(SQL_QUERIES)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(running_queries(os.getpid())) == SQL_QUERIES)
        with pytest.raises(OverloadedError) as caught:
            client.sql("SELECT 1", timeout_s=5)
        for thread in threads:
            thread.join()
        assert caught.value.retry_after_s
        assert client.sql("SELECT 1").num_rows == 1


def test_query_dies_with_its_server(server_process: Callable[..., ServerProcess]) -> None:
    """A server that is killed leaves no query running."""
    server = server_process()
    with timestore.connect(server.url, retries=False) as client:

        def run() -> None:
            with pytest.raises(timestore.TimestoreError):
                client.sql(ENDLESS, timeout_s=300)

        thread = threading.Thread(target=run)
        thread.start()
        queries: list[psutil.Process] = []

        def found() -> bool:
            queries[:] = running_queries(server.pid)
            return len(queries) == 1 and queries[0].cpu_times().user > 1.0

        wait_until(found)
        server.kill()
        wait_until(lambda: not queries[0].is_running() or queries[0].status() == psutil.STATUS_ZOMBIE)
        thread.join()
