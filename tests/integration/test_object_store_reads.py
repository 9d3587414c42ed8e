"""Everything that reads, over a real object store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import adbc_driver_flightsql.dbapi as flight_sql

import timestore
from tests.fixtures.command_line import run_process
from tests.fixtures.data import cpu_table
from tests.fixtures.object_stores import ObjectServer, TestBucket
from tests.fixtures.server import StartService

ROWS = cpu_table(6_000, step_s=43.2)  # three days
HEADER = "adbc.flight.sql.rpc.call_header."


def test_reads_sql_fsck_and_rebuild_over_s3(
    seaweed: ObjectServer,
    make_bucket: Callable[[ObjectServer], TestBucket],
    start_service: StartService,
    postgres_dsn: str,
    catalog_schema: str,
) -> None:
    """Rows, SQL, Flight SQL, a deep fsck and a rebuilt catalog are as over local files."""
    bucket = make_bucket(seaweed)
    options = dict(seaweed.options)
    storage = {"storage_url": bucket.url, "storage_options": options}
    service = start_service(**storage)
    with timestore.connect(service.url) as client:
        assert _ingested(service.url) == ROWS.num_rows
        assert client.read("cpu").equals(ROWS)
        query = "SELECT count(*) AS n FROM cpu WHERE ts >= '2026-01-02' AND region = 'eu'"
        assert client.sql(query).to_pylist() == [{"n": 4_000}]
        assert _queried(service.url) == [[("eu", 4_000)], [("eu", 4_000)]]
    place = ["--storage-url", bucket.url, *(f"--storage-option={name}={value}" for name, value in options.items())]
    place += ["--catalog-dsn", postgres_dsn, "--catalog-schema"]
    found = run_process("fsck", "--deep", "--json", *place, catalog_schema)
    assert found.document["findings"] == []
    rebuilt = run_process("rebuild", "--json", *place, f"{catalog_schema}_new")
    assert rebuilt.document["left"] == []
    with timestore.connect(start_service(**storage, catalog_schema=f"{catalog_schema}_new").url) as client:
        assert client.read("cpu").equals(ROWS)


def _ingested(url: str) -> int:
    with _adbc(url) as adbc, adbc.cursor() as cursor:
        cursor.adbc_statement.set_options(**{f"{HEADER}x-timestore-key": '{"region": "eu"}'})
        return cursor.adbc_ingest("cpu", ROWS, mode="create")


def _queried(url: str) -> list[list[tuple[object, ...]]]:
    """Return what a prepared statement gives, once the files are fetched and once they are in the read cache."""
    query = "SELECT region, count(*) FROM cpu WHERE ts >= ? AND region = ? GROUP BY ALL"
    found = []
    with _adbc(url) as adbc, adbc.cursor() as cursor:
        for _ in range(2):
            cursor.execute(query, (datetime(2026, 1, 2, tzinfo=UTC), "eu"))
            found.append(cursor.fetchall())
    return found


def _adbc(url: str) -> flight_sql.Connection:
    return flight_sql.connect(url.replace("grpc://", "grpc+tcp://"), autocommit=True)
