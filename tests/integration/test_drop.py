"""A dropped dataset is gone at once, for good, and its name is free."""

from __future__ import annotations

import pyarrow.flight as flight
import pytest

import timestore
from tests.fixtures.actions import act_one
from tests.fixtures.data import cpu_table
from tests.fixtures.raw_put import RawPut, command, typed
from timestore.errors import InvalidInputError, NotFoundError, RetryableError
from timestore.reading import ReadDescriptor


def drop(url: str, dataset: str = "cpu") -> dict[str, object]:
    """Drop a dataset as one should."""
    return act_one(url, "drop_dataset", dataset=dataset, confirm=dataset)


def test_dropped_dataset_is_gone(server_url: str, client: timestore.Client) -> None:
    """Its name is nowhere any more, and dropping it is its last version."""
    client.append("cpu", cpu_table(10))
    client.append("other", cpu_table(10))
    described = client.describe("cpu")

    answer = drop(server_url)

    assert (answer["dataset"], answer["incarnation"], answer["version"]) == ("cpu", described["incarnation"], 2)
    assert [item["dataset"] for item in client.datasets()] == ["other"]
    for call in (client.read, client.describe, client.manifest, client.history, lambda name: drop(server_url, name)):
        with pytest.raises(NotFoundError) as caught:
            call("cpu")
        assert caught.value.kind == "dataset_not_found"


@pytest.mark.parametrize("confirm", ["Cpu", "", "other", None])
def test_name_must_be_given_twice(server_url: str, client: timestore.Client, confirm: str | None) -> None:
    """Without the name once more, nothing is dropped."""
    client.append("cpu", cpu_table(10))

    with pytest.raises(InvalidInputError, match="confirm"):
        act_one(server_url, "drop_dataset", dataset="cpu", confirm=confirm)

    assert client.describe("cpu")["rows"] == 10


def test_name_can_be_used_anew(server_url: str, client: timestore.Client) -> None:
    """The next dataset of that name has nothing of the old: schema, versions, idempotency keys, totals, incarnation."""
    old = client.append("cpu", cpu_table(10), key={"a": "1"}, idempotency_key="k")
    drop(server_url)

    new = client.append("cpu", cpu_table(20).select(["ts", "up"]), idempotency_key="k", create={"window": "1h"})

    assert (new.version, new.replayed, new.incarnation != old.incarnation) == (1, False, True)
    assert client.read("cpu").equals(cpu_table(20).select(["ts", "up"]))
    assert client.describe("cpu")["rows"] == 20
    assert [entry["kind"] for entry in client.history("cpu")] == ["append"]


def test_old_tickets_expire(server_url: str, client: timestore.Client) -> None:
    """A ticket of a dropped dataset is refused as expired, whether its name is in use again or not."""
    client.append("cpu", cpu_table(10))
    with flight.FlightClient(server_url) as raw:
        info = raw.get_flight_info(flight.FlightDescriptor.for_command(ReadDescriptor(dataset="cpu").to_command()))
        drop(server_url)
        for again in (False, True):
            if again:
                client.append("cpu", cpu_table(10))
            with pytest.raises(flight.FlightError) as caught:
                raw.do_get(info.endpoints[0].ticket).read_all()
            assert typed(caught.value).kind == "version_expired"


@pytest.mark.parametrize("recreated", [False, True])
def test_running_put_is_fenced_and_its_retry_creates_anew(
    server_url: str, client: timestore.Client, recreated: bool
) -> None:
    """A put that runs while its dataset is dropped stores nothing, not even in a new one just like it; a retry does."""
    client.append("cpu", cpu_table(10))
    put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), cpu_table(1).schema)
    assert put.answer() is not None
    put.send(cpu_table(100))

    drop(server_url)
    if recreated:
        client.append("cpu", cpu_table(10))
    put.mark_end(100)

    with pytest.raises(RetryableError) as caught:
        put.finish()
    assert caught.value.kind == "fenced"
    assert client.append("cpu", cpu_table(100), idempotency_key="a").version == (2 if recreated else 1)
    assert client.read("cpu").num_rows == (110 if recreated else 100)
    assert client.stats()["intents"] == 0


def test_running_read_of_a_dropped_dataset_ends_whole(server_url: str, client: timestore.Client) -> None:
    """A read that has begun when its dataset is dropped gets every row."""
    sent = cpu_table(300_000, step_s=0.1)
    client.append("cpu", sent)
    with flight.FlightClient(server_url) as raw:
        info = raw.get_flight_info(flight.FlightDescriptor.for_command(ReadDescriptor(dataset="cpu").to_command()))
        reader = raw.do_get(info.endpoints[0].ticket)
        first = reader.read_chunk().data
        drop(server_url)
        rest = reader.read_all()

    assert 0 < first.num_rows < sent.num_rows
    assert first.num_rows + rest.num_rows == sent.num_rows
