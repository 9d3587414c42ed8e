"""The promise of DESIGN section 1, seen by one client."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.files import manifest_paths, published_files, read_with_duckdb
from tests.fixtures.server import StartService
from timestore.errors import ConflictError, InvalidInputError, TimestoreError


def test_receipt_means_visible(client: timestore.Client) -> None:
    """When a put returns a receipt, every row is visible in every partition it touched, at one version."""
    sent = cpu_table(20_000)

    receipt = client.append("cpu", sent, key={"region": "eu"}, idempotency_key="a")

    assert (receipt.version, receipt.rows, receipt.replayed, receipt.landing) == (1, 20_000, False, "file")
    manifest = client.manifest("cpu")
    assert [item["added_version"] for item in manifest] == [1, 1, 1]
    assert [item["window"][0] for item in manifest] == [f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3)]
    assert {item["id"] for item in manifest} == {file.id for file in receipt.files}
    assert client.read("cpu").equals(sent)


@pytest.mark.capability("DuckDB", "reads")
@pytest.mark.capability("DuckDB", "SQL")
def test_files_hold_the_rows(client: timestore.Client) -> None:
    """A person with DuckDB finds the rows of a partition, in order, in the file that the manifest names."""
    sent = cpu_table(10_000)
    client.append("cpu", sent, key={"region": "eu"})

    found = pa.concat_tables([read_with_duckdb(path) for path in manifest_paths(client, "cpu")])

    assert found.cast(sent.schema).equals(sent)


def test_file_says_what_it_is(client: timestore.Client) -> None:
    """Dataset, key, window, schema, rows and append stand in each file: a catalog can be rebuilt from storage alone."""
    sent = cpu_table(100)
    receipt = client.append("cpu", sent, key={"site": "12", "region": "eu"}, idempotency_key="a")
    [path] = manifest_paths(client, "cpu")

    [facts] = read_with_duckdb(path, "SELECT * FROM file.timestore_file").to_pylist()

    assert (facts["dataset"], facts["key"], facts["row_count"]) == ("cpu", '{"region":"eu","site":"12"}', 100)
    assert facts["window_start"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert pa.ipc.read_schema(pa.py_buffer(facts["arrow_schema"])).equals(sent.schema)
    assert facts["appends"] == [
        {
            "append_id": receipt.append_id,
            "idempotency_key": "a",
            "fingerprint": receipt.fingerprint,
            "total_rows": 100,
            "rows": 100,
        }
    ]


def test_replay_returns_the_first_receipt(client: timestore.Client) -> None:
    """The same stream with the same idempotency key returns the same receipt and adds nothing, however batched."""
    sent = cpu_table(5_000)
    first = client.append("cpu", sent, idempotency_key="a")

    again = client.append("cpu", pa.Table.from_batches(sent.to_batches(max_chunksize=7)), idempotency_key="a")

    assert again.replayed
    assert again.as_json() | {"replayed": False} == first.as_json()
    assert client.describe("cpu")["rows"] == 5_000
    assert client.describe("cpu")["version"] == 1


@pytest.mark.parametrize(
    "other", [cpu_table(4_999), cpu_table(0), cpu_table(5_000, seed=2)], ids=["cut", "empty", "other"]
)
def test_other_stream_with_a_taken_key_is_refused(client: timestore.Client, other: pa.Table) -> None:
    """Another stream with a taken idempotency key is a conflict, and nothing of it is stored."""
    client.append("cpu", cpu_table(5_000), idempotency_key="a")

    with pytest.raises(ConflictError) as caught:
        client.append("cpu", other, idempotency_key="a")

    assert caught.value.kind == "idempotency_conflict"
    assert client.describe("cpu")["version"] == 1


def test_other_key_is_another_append(client: timestore.Client) -> None:
    """The semantic key belongs to the fingerprint: the same rows for another key are a conflict."""
    client.append("cpu", cpu_table(10), key={"region": "eu"}, idempotency_key="a")

    with pytest.raises(ConflictError):
        client.append("cpu", cpu_table(10), key={"region": "us"}, idempotency_key="a")


def test_refused_rows_leave_nothing(client: timestore.Client, tmp_path: Path) -> None:
    """A put that is refused in the middle leaves no rows, no files, no open intents, and its key free."""
    good = cpu_table(300_000)
    bad = pa.concat_tables([good, cpu_table(10)])

    with pytest.raises(InvalidInputError) as caught:
        client.append("cpu", bad, idempotency_key="a")

    assert caught.value.kind == "timestamp_unordered"
    assert caught.value.details["row"] == "300000"
    assert published_files(tmp_path / "data") == []
    assert client.stats()["intents"] == 0
    assert client.append("cpu", good, idempotency_key="a").rows == 300_000


def test_error_names_the_idempotency_key(client: timestore.Client) -> None:
    """A caller who gave no idempotency key learns the one to retry with."""
    with pytest.raises(TimestoreError) as caught:
        client.append("cpu", pa.table({"x": [1]}))

    assert caught.value.idempotency_key


def test_empty_stream_commits_without_files(client: timestore.Client) -> None:
    """A stream of zero rows is an append with a receipt and a version, and no files."""
    receipt = client.append("cpu", cpu_table(0), idempotency_key="a")

    assert (receipt.version, receipt.rows, receipt.files_total) == (1, 0, 0)
    assert client.read("cpu").schema.equals(cpu_table(0).schema)
    assert client.append("cpu", cpu_table(0), idempotency_key="a").replayed


def test_many_chunks_keep_their_order(client: timestore.Client) -> None:
    """The rows of one put keep their order within a partition, across as many files as it takes."""
    sent = cpu_table(700_000, step_s=0.1)

    receipt = client.append("cpu", sent)

    assert receipt.files_total > 1
    assert client.read("cpu").equals(sent)


def test_sort_orders_each_file(client: timestore.Client) -> None:
    """A dataset with order: sort takes rows in any order; each file is sorted, equal timestamps in their order."""
    sent = cpu_table(1_000).take(pa.array([(i * 7919) % 1_000 for i in range(1_000)]))

    client.append("cpu", sent, create={"order": "sort"})

    assert client.read("cpu").equals(cpu_table(1_000))


def test_any_keeps_the_order_of_arrival(client: timestore.Client) -> None:
    """A dataset with order: any keeps rows as they came."""
    sent = cpu_table(1_000).take(pa.array([(i * 7919) % 1_000 for i in range(1_000)]))

    client.append("cpu", sent, create={"order": "any"})

    assert client.read("cpu").equals(sent)


def test_versions_are_kept(client: timestore.Client) -> None:
    """A manifest and a read at an older version show exactly what was visible then."""
    first, second = cpu_table(10), cpu_table(10, offset=10)
    client.append("cpu", first)
    moment = datetime.now(UTC)
    client.append("cpu", second)

    assert client.read("cpu", version=1).equals(first)
    assert client.read("cpu", as_of=moment).equals(first)
    assert client.read("cpu").equals(pa.concat_tables([first, second]))
    assert [entry["version"] for entry in client.history("cpu")] == [2, 1]


def test_added_column_is_null_in_older_rows(client: timestore.Client) -> None:
    """A new nullable column evolves the schema; older rows read as null and older producers keep working."""
    old = cpu_table(10)
    new = cpu_table(10, offset=10).append_column("note", pa.array(["x"] * 10))
    client.append("cpu", old, idempotency_key="a")
    client.append("cpu", new)
    client.append("cpu", cpu_table(10, offset=20))

    read = client.read("cpu")

    assert read.column("note").to_pylist() == [None] * 10 + ["x"] * 10 + [None] * 10
    assert client.read("cpu", version=1).equals(old)
    assert client.append("cpu", old, idempotency_key="a").replayed


def test_reads_select(client: timestore.Client) -> None:
    """A read can ask for columns, a subset of the key, a time range, and the key as columns."""
    client.append("cpu", cpu_table(20_000), key={"region": "eu", "site": "1"})
    client.append("cpu", cpu_table(20_000, seed=2), key={"region": "us", "site": "1"})

    part = client.read(
        "cpu",
        key={"region": "us"},
        columns=["host"],
        start=datetime(2026, 1, 2, tzinfo=UTC),
        end=datetime(2026, 1, 2, 0, 1, tzinfo=UTC),
        with_key=True,
    )

    assert part.to_pylist() == [{"host": f"host-{i % 10}", "region": "us", "site": "1"} for i in range(6)]


def test_unknown_type_is_refused_by_name(client: timestore.Client) -> None:
    """A type that cannot be stored is refused before any data is sent, naming column and type."""
    table = cpu_table(10).append_column("tags", pa.array([1.5] * 10, pa.float16()))

    with pytest.raises(InvalidInputError) as caught:
        client.append("cpu", table)

    assert caught.value.kind == "type_unsupported"
    assert caught.value.details["column"] == "tags"


def test_a_restarted_server_continues(start_service: StartService) -> None:
    """What was committed before a restart is visible and replayed after it."""
    first = start_service()
    sent = cpu_table(100)
    with timestore.connect(first.url) as client:
        receipt = client.append("cpu", sent, idempotency_key="a")
    first.close()

    with timestore.connect(start_service().url) as client:
        assert client.read("cpu").equals(sent)
        assert client.append("cpu", sent, idempotency_key="a") == receipt.as_replay()


def test_create_dataset_then_append(client: timestore.Client) -> None:
    """A dataset can be created without rows; creating it again alike changes nothing, otherwise it is refused."""
    schema = cpu_table(0).schema
    first = client.create_dataset("cpu", schema, window="month", order="sort")
    again = client.create_dataset("cpu", schema, window="month", order="sort")

    assert (first["created"], again["created"], first["version"]) == (True, False, 0)
    with pytest.raises(ConflictError) as caught:
        client.create_dataset("cpu", schema, window="1d")
    assert caught.value.kind == "dataset_exists"
    assert client.append("cpu", cpu_table(10)).version == 1
    assert client.manifest("cpu")[0]["window"] == ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]


def test_names_are_unique_ignoring_case(client: timestore.Client) -> None:
    """`CPU` beside `cpu` is refused."""
    client.append("cpu", cpu_table(1))

    with pytest.raises(InvalidInputError) as caught:
        client.append("CPU", cpu_table(1))

    assert caught.value.kind == "name_invalid"


def test_key_names_are_fixed_by_the_first_append(client: timestore.Client) -> None:
    """Every put of a dataset has the key names of its first."""
    client.append("cpu", cpu_table(1), key={"region": "eu"})

    with pytest.raises(InvalidInputError) as caught:
        client.append("cpu", cpu_table(1))

    assert caught.value.kind == "schema_mismatch"
