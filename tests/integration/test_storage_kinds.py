"""One catalog over a directory and a bucket: each dataset is where it was created, and everything finds it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import timestore
from catalog.connections import Connections
from catalog.lifecycle import Lifecycle
from catalog.storage_targets import TargetRegister
from storage import azure, gcs, s3
from storage.horizon import read_horizon
from storage.local import LocalStore
from storage.targets import Targets
from tests.fixtures.command_line import run_here, run_process
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.object_stores import SECRET_KEY, ObjectServer, TestBucket, s3_client
from tests.fixtures.server import StartService
from timestore.errors import TimestoreError
from timestore.storage_target import StorageTarget
from writers.housekeeping import Housekeeping

ROWS = cpu_table(6_000, step_s=43.2)  # three days
NOW = timedelta(0)


@pytest.fixture(name="bucket")
def _bucket(seaweed: ObjectServer, make_bucket: Callable[[ObjectServer], TestBucket]) -> TestBucket:
    return make_bucket(seaweed)


@pytest.fixture(name="both")
def _both(start_service: StartService, bucket: TestBucket) -> Iterator[timestore.Client]:
    """A client of a server with a dataset in a directory, and one in a bucket."""
    with timestore.connect(start_service().url, retries=False) as client:
        client.add_storage("archive", bucket.url, options=dict(bucket.server.options))
        client.append("hot", ROWS)
        client.create_dataset("cold", ROWS.schema, storage="archive")
        client.append("cold", ROWS)
        yield client


def _stored(bucket: TestBucket) -> list[str]:
    """The data files in a bucket, by their paths."""
    return sorted(each.path for each in bucket.store().list() if each.path.endswith(".duckdb"))


@pytest.fixture(name="command")
def _command(postgres_dsn: str, catalog_schema: str, tmp_path: Path) -> Callable[..., Any]:
    """Run a command that works on catalog and storage, beside the server's process, and return its document."""

    def run(*arguments: str, schema: str = catalog_schema, code: int = 0) -> Any:
        place = ["--catalog-dsn", postgres_dsn, "--catalog-schema", schema, "--storage-url", str(tmp_path / "data")]
        done = run_process(*arguments, "--json", *place)
        assert done.code == code, done.out + done.err
        return done.document

    return run


def test_rows_are_where_their_dataset_is(both: timestore.Client, bucket: TestBucket, tmp_path: Path) -> None:
    """Files go to their dataset's store alone; reads, and one query over both, give what was sent."""
    assert len(published_files(tmp_path / "data")) == len(_stored(bucket)) == 3
    assert {path.split("/")[0] for path in _stored(bucket)} == {"cold"}
    assert {item["uri"].removeprefix(f"{bucket.url}/") for item in both.manifest("cold")} == set(_stored(bucket))
    assert both.append("cold", ROWS, idempotency_key="again").version == 2
    assert both.append("cold", ROWS, idempotency_key="again").replayed
    for dataset, version in (("hot", 1), ("cold", 1)):
        assert both.read(dataset, version=version).equals(ROWS)
    query = "SELECT count(*) AS n FROM hot JOIN cold USING (ts, host) WHERE cold.ts >= '2026-01-02'"
    assert both.sql(query, versions={"hot": 1, "cold": 1}).to_pylist() == [{"n": 4_000}]
    assert [(each["storage"], each["slices"], each["state"]) for each in both.list_storage()] == [
        ("default", 3, "ok"),
        ("archive", 6, "ok"),
    ]


def test_a_restart_finds_both(start_service: StartService, bucket: TestBucket, tmp_path: Path) -> None:
    """A server that starts again reads and writes in both, and each store has heard how far the catalog has come."""
    service = start_service()
    with timestore.connect(service.url) as client:
        client.add_storage("archive", bucket.url, options=dict(bucket.server.options))
        client.append("hot", ROWS)
        client.append("cold", ROWS, create={"storage": "archive"})
    service.close()
    assert read_horizon(bucket.store()) > 0
    assert read_horizon(LocalStore(root=tmp_path / "data")) > 0
    with timestore.connect(start_service().url) as client:
        for dataset in ("hot", "cold"):
            assert client.read(dataset).equals(ROWS)
            assert client.append(dataset, ROWS).version == 2
        assert client.sweep()["left"] == {}


def test_a_bucket_first_and_a_directory_beside_it(
    start_service: StartService, bucket: TestBucket, tmp_path: Path
) -> None:
    """It is the same the other way round: a directory beside a default that is elsewhere."""
    service = start_service(storage_url=bucket.url, storage_options=dict(bucket.server.options))
    with timestore.connect(service.url) as client:
        client.add_storage("fast", str(tmp_path / "fast"))
        client.append("hot", ROWS, create={"storage": "fast"})
        client.append("cold", ROWS)
        assert len(published_files(tmp_path / "fast")) == len(_stored(bucket)) == 3
        assert client.read("hot").equals(client.read("cold"))
        assert client.sql(
            "SELECT count(*) AS n FROM hot, (SELECT min(ts) AS t FROM cold) WHERE ts = t"
        ).to_pylist() == [{"n": 1}]


def test_fsck_and_rebuild_know_both(
    both: timestore.Client,
    bucket: TestBucket,
    command: Callable[..., Any],
    catalog_schema: str,
    start_service: StartService,
) -> None:
    """A deep fsck reads the files of both and names the store of what is missing; a rebuild takes in those of both."""
    deep = command("fsck", "--deep")
    assert (deep["files"], deep["findings"]) == (6, [])
    place = [f"--option=archive.{name}={value}" for name, value in bucket.server.options.items()]
    rebuilt = command("rebuild", "--storage", f"archive={bucket.url}", *place, schema=f"{catalog_schema}_new")
    assert rebuilt["left"] == []
    with timestore.connect(start_service(catalog_schema=f"{catalog_schema}_new").url) as client:
        assert {name: client.describe(name)["storage"] for name in ("hot", "cold")} == {
            "hot": "default",
            "cold": "archive",
        }
        assert client.read("hot").equals(client.read("cold"))
        assert client.append("cold", ROWS).version == 2
    lost = _stored(bucket)[0]
    s3_client(bucket.server.port).delete_object(Bucket=bucket.name, Key=f"some/prefix/{lost}")
    [found] = command("fsck", schema=f"{catalog_schema}_new", code=1)["findings"]
    assert (found["kind"], found["storage"], found["path"]) == ("missing", "archive", lost)


def test_what_is_over_goes_from_both(
    both: timestore.Client,
    bucket: TestBucket,
    connections: Connections,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files of dropped datasets are deleted in their own store, and what was never finished in the bucket is ended."""
    monkeypatch.setattr("writers.housekeeping.ABANDONED_UPLOAD", NOW)
    s3 = s3_client(bucket.server.port)
    s3.create_multipart_upload(Bucket=bucket.name, Key="some/prefix/never-finished.duckdb")
    for dataset in ("hot", "cold"):
        both.drop_dataset(dataset, confirm=dataset)
    keeper = Housekeeping(
        lifecycle=Lifecycle(connections=connections),
        targets=Targets(
            default=LocalStore(root=tmp_path / "data"), added=TargetRegister(connections=connections).targets
        ),
        history_retention=NOW,
        ticket_lifetime=NOW,
        lease=timedelta(days=1),
    )
    for _ in range(2):
        keeper.run()
    assert [*published_files(tmp_path / "data"), *_stored(bucket)] == []
    assert not s3.list_multipart_uploads(Bucket=bucket.name).get("Uploads")


def test_a_server_without_credentials(
    both: timestore.Client, bucket: TestBucket, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts and serves what is on its disk; the bucket's datasets are refused, with the storage and no secret."""
    for name, value in bucket.server.wrong_environment.items():
        monkeypatch.setenv(name, value)
    with timestore.connect(start_service().url, retries=False) as blind:
        assert blind.append("hot", ROWS).version == 2
        assert blind.read("hot", version=1).equals(ROWS)
        for call in (lambda: blind.append("cold", ROWS), lambda: blind.read("cold")):
            with pytest.raises(TimestoreError, match="timestore storage test archive") as caught:
                call()
            assert (caught.value.kind, caught.value.details["storage"]) == ("storage_unavailable", "archive")
        assert list(blind.sweep()["left"]) == ["archive"]
        [default, archive] = blind.list_storage()
        assert (default["state"], archive["state"]) == ("ok", "storage_unavailable")
        tested = blind.test_storage("archive")
        assert not tested["ok"]
        assert "credentials" in tested["steps"][0]["reason"]
        assert not any(value in str(tested) for value in bucket.server.wrong_environment.values())
    assert both.append("cold", ROWS).version == 2


WRONG_PLACES: tuple[tuple[str, dict[str, str], str], ...] = (
    ("s3://no-such-bucket-7c1/archive", {}, "'no-such-bucket-7c1'"),
    ("s3://{bucket}/archive", {"endpoint": "x"}, "StorageClass, addressing_style, endpoint_url"),
    ("s3://{bucket}/archive", {"endpoint_url": "127.0.0.1:1"}, "an address like https://"),
    ("s4://{bucket}/archive", {}, "use a directory or file://, s3://"),
    ("s3:///archive", {}, "look like s3://bucket/prefix"),
    ("s3:/{bucket}/archive", {}, "s3://bucket/prefix or file:///directory"),
)


def test_a_wrong_place_is_told_what_to_do(server_url: str, bucket: TestBucket) -> None:
    """``timestore storage test`` on a place that cannot be one fails, says what is wrong and what would be right."""
    for url, options, said in WRONG_PLACES:
        given = {**(bucket.server.options if url.startswith("s3://") else {}), **options}
        arguments = [f"--option={name}={value}" for name, value in given.items()]
        result = run_here("storage", "test", url.format(bucket=bucket.name), *arguments, TIMESTORE_URL=server_url)
        assert result.exit_code != 0, result.output
        assert said in " ".join(result.output.split())
        assert "Traceback" not in result.output
        assert SECRET_KEY not in result.output


def test_a_place_in_a_bucket_is_tested(client: timestore.Client, bucket: TestBucket) -> None:
    """A place that is none yet is tried from the server, and is as empty afterwards as it was."""
    tested = client.test_storage(bucket.url, options=dict(bucket.server.options))
    assert (tested["ok"], len(tested["steps"])) == (True, 5)
    assert list(bucket.store().list()) == []


def test_options_that_are_no_secrets() -> None:
    """Every option that a kind of store has can be kept in the catalog: none of them is taken for a secret."""
    for store in (azure, gcs, s3):
        options = dict.fromkeys(store._OPTIONS, "true")
        assert StorageTarget.parse(name="a", url="s3://b/c", options=options).options == options
