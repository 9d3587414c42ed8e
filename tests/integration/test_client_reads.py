"""Reading through the client: streams, in order, in bounded memory."""

from __future__ import annotations

import asyncio
import threading

import pyarrow as pa
import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.gate import Gate
from tests.fixtures.server import wait_until
from timestore.errors import InvalidInputError, NotFoundError, RetryableError
from timestore_app.service import Service

DAYS = cpu_table(20_000, step_s=60)  # two weeks


@pytest.mark.parametrize("parallel", [1, 4])
def test_rows_stream_in_order(client: timestore.Client, parallel: int) -> None:
    """``read_batches`` gives all rows in the order of windows, however many parts are read at once."""
    client.append("cpu", DAYS)

    with client.read_batches("cpu", parallel=parallel) as batches:
        assert pa.Table.from_batches(list(batches), batches.schema).equals(DAYS)


def test_stream_stays_at_its_version(client: timestore.Client) -> None:
    """Rows that are committed while a stream is read are not in it."""
    client.append("cpu", DAYS)
    batches = client.read_batches("cpu")
    first = batches.read_next_batch()
    client.append("cpu", DAYS)

    assert first.num_rows + sum(batch.num_rows for batch in batches) == DAYS.num_rows


@pytest.mark.parametrize("parallel", [1, 4])
def test_stream_that_is_left_early(client: timestore.Client, parallel: int) -> None:
    """A reader that is dropped after its first batch leaves no thread behind and no place taken at the server."""
    client.append("cpu", DAYS)
    for _ in range(12):  # more than the server lends readers
        batches = client.read_batches("cpu", parallel=parallel)
        batches.read_next_batch()
        del batches

    wait_until(lambda: not any(thread.name == "timestore-read-ahead" for thread in threading.enumerate()))
    assert client.read("cpu").num_rows == DAYS.num_rows


@pytest.mark.parametrize("parallel", [1, 4])
def test_broken_stream_is_an_error(service: Service, gate: Gate, parallel: int) -> None:
    """A connection that breaks in the middle of rows is a retryable error, never a short table."""
    gate.open_to(service.port)
    with timestore.connect(service.url) as direct:
        direct.append("cpu", cpu_table(400_000, step_s=1))
    with timestore.connect(gate.url, retries=False) as client:
        batches = client.read_batches("cpu", parallel=parallel)
        batches.read_next_batch()
        gate.close()

        with pytest.raises(RetryableError):
            list(batches)


def test_schema_of_a_version(client: timestore.Client) -> None:
    """The schema of a dataset can be asked for alone, as it was at any version."""
    client.append("cpu", DAYS.drop_columns(["up"]))
    client.append("cpu", DAYS)

    assert client.schema("cpu").equals(DAYS.schema)
    assert client.schema("cpu", version=1).names == ["ts", "host", "usage", "errors"]


def test_not_found_is_typed(client: timestore.Client) -> None:
    """What is not there is a ``NotFoundError``, at once: nothing about it is worth repeating."""
    with pytest.raises(NotFoundError):
        client.read_batches("nothing")
    with pytest.raises(NotFoundError):
        client.receipt("nothing", "a")


def test_url_that_is_none() -> None:
    """A URL that cannot be one is named when connecting."""
    with pytest.raises(InvalidInputError, match="is no server's URL"):
        timestore.connect("no url")


def test_awaited_client(server_url: str) -> None:
    """``connect_async`` gives the same calls, awaited, several at once."""

    async def story() -> None:
        async with timestore.connect_async(server_url) as client:
            receipts = await asyncio.gather(*(client.append("cpu", DAYS, key={"site": str(n)}) for n in range(4)))
            assert sorted(receipt.version for receipt in receipts) == [1, 2, 3, 4]
            rows = 0
            async for batch in client.read_batches("cpu", columns=["ts"]):
                rows += batch.num_rows
            assert rows == 4 * DAYS.num_rows
            assert (await client.describe("cpu"))["rows"] == rows
            assert (await client.read("cpu", key={"site": "1"})).equals(DAYS)

    asyncio.run(story())


def test_awaited_client_has_every_method() -> None:
    """Nothing that the client can do is missing from the awaited one."""

    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(timestore.AsyncClient) == public(timestore.Client)
