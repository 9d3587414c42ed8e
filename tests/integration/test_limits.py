"""Limits of a dataset: what is past them is refused whole, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.raw_put import RawPut, command
from timestore.errors import InvalidInputError, TimestoreError


def test_too_many_rows_are_refused_as_soon_as_they_are_there(server_url: str, client: timestore.Client) -> None:
    """A put is refused at the batch that passes max_rows_per_put, not at its end; exactly so many rows are taken."""
    client.create_dataset("cpu", cpu_table(1).schema, max_rows_per_put=10_000)
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), cpu_table(1).schema)
    assert put.answer() is not None
    put.send(cpu_table(10_001))

    with pytest.raises(InvalidInputError) as caught:
        put.finish()  # without an end marker: only the rows that came can be the reason

    assert caught.value.kind == "too_many_rows"
    assert caught.value.details["limit"] == "10000"
    assert client.append("cpu", cpu_table(10_000), idempotency_key="a").rows == 10_000


def test_limit_of_rows_does_not_touch_a_replay(client: timestore.Client) -> None:
    """A retry of what has committed gets its receipt, another stream under its key a conflict, whatever its size."""
    options = {"max_rows_per_put": 100}
    first = client.append("cpu", cpu_table(100), idempotency_key="a", create=options)

    assert client.append("cpu", cpu_table(100), idempotency_key="a", create=options).version == first.version
    with pytest.raises(TimestoreError) as caught:
        client.append("cpu", cpu_table(200), idempotency_key="a")

    assert caught.value.kind == "idempotency_conflict"


def test_put_past_max_bytes_leaves_nothing(client: timestore.Client, tmp_path: Path) -> None:
    """A put that would take the dataset past max_bytes stores nothing, and leaves no file and no intent."""
    client.append("cpu", cpu_table(1_000))
    one = client.describe("cpu")["bytes"]
    client.append("small", cpu_table(1_000), create={"max_bytes": int(one * 1.5)})
    files = published_files(tmp_path / "data")

    with pytest.raises(InvalidInputError) as caught:
        client.append("small", cpu_table(1_000, offset=1_000), idempotency_key="a")

    assert caught.value.kind == "dataset_full"
    assert caught.value.details["limit"] == str(int(one * 1.5))
    assert client.describe("small")["rows"] == 1_000
    assert client.history("small")[0]["version"] == 1
    assert published_files(tmp_path / "data") == files
    assert client.stats()["intents"] == 0


def test_full_dataset_says_so_before_data_is_sent(server_url: str, client: timestore.Client) -> None:
    """A dataset that has no byte left refuses a put at once, and still answers retries of what it took."""
    size = client.append("cpu", cpu_table(100)).files[0].bytes
    client.append("full", cpu_table(100), idempotency_key="a", create={"max_bytes": size})
    put = RawPut(server_url, command(dataset="full", idempotency_key="b"), cpu_table(1).schema)

    with pytest.raises(InvalidInputError, match="dataset_full"):
        put.finish()

    assert client.append("full", cpu_table(100), idempotency_key="a").replayed


def test_refused_first_put_creates_no_dataset(client: timestore.Client) -> None:
    """A dataset that a put would have created is not there when the put was past the limit it named itself."""
    for options in ({"max_bytes": 10}, {"max_rows_per_put": 10}):
        with pytest.raises(InvalidInputError, match=r"dataset_full|too_many_rows"):
            client.append("cpu", cpu_table(100), create=options)

    assert client.datasets() == []


@pytest.mark.parametrize("option", ["max_rows_per_put", "max_bytes"])
def test_limits_must_agree(client: timestore.Client, option: str) -> None:
    """Creation options that name another limit than the dataset has are refused, and its own are described."""
    client.append("cpu", cpu_table(10), create={option: 1_000_000})

    with pytest.raises(TimestoreError, match=option) as caught:
        client.append("cpu", cpu_table(10), create={option: 1_000_001})

    assert caught.value.kind == "dataset_exists"
    assert client.describe("cpu")[option] == 1_000_000
    assert client.append("cpu", cpu_table(10), create={option: 1_000_000}).version == 2


@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True])
@pytest.mark.parametrize("option", ["max_rows_per_put", "max_bytes"])
def test_senseless_limits_are_refused(client: timestore.Client, option: str, value: object) -> None:
    """A limit is an integer of at least 1."""
    with pytest.raises(InvalidInputError, match=option):
        client.create_dataset("cpu", cpu_table(1).schema, **{option: value})
