"""The client for asyncio: each call of the plain one on a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import pyarrow as pa

from timestore.client.client import Client, connect
from timestore.client.retrying import DEFAULT_DEADLINE_S

P = ParamSpec("P")
T = TypeVar("T")


def connect_async(
    url: str, *, deadline_s: float = DEFAULT_DEADLINE_S, retries: bool = True, **access: Any
) -> AsyncClient:
    """Return a client as ``connect`` does, whose methods are awaited; ``access`` are its other options."""
    return AsyncClient(connect(url, deadline_s=deadline_s, retries=retries, **access))


def _awaited(
    method: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(method)
    async def call(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self._client, *args, **kwargs)

    return call


class AsyncClient:
    """``Client``, awaited. A call that is cancelled goes on in its thread: repeat it with its idempotency key."""

    def __init__(self, client: Client) -> None:
        self._client = client

    append = _awaited(Client.append)
    append_many = _awaited(Client.append_many)
    read = _awaited(Client.read)
    schema = _awaited(Client.schema)
    create_dataset = _awaited(Client.create_dataset)
    datasets = _awaited(Client.datasets)
    describe = _awaited(Client.describe)
    manifest = _awaited(Client.manifest)
    receipt = _awaited(Client.receipt)
    abandon = _awaited(Client.abandon)
    drop_dataset = _awaited(Client.drop_dataset)
    set_retention = _awaited(Client.set_retention)
    expire = _awaited(Client.expire)
    history = _awaited(Client.history)
    audit = _awaited(Client.audit)
    add_storage = _awaited(Client.add_storage)
    list_storage = _awaited(Client.list_storage)
    test_storage = _awaited(Client.test_storage)
    sweep = _awaited(Client.sweep)
    health = _awaited(Client.health)
    stats = _awaited(Client.stats)
    sql = _awaited(Client.sql)
    close = _awaited(Client.close)

    async def read_batches(self, dataset: str, **options: Any) -> AsyncIterator[pa.RecordBatch]:
        """Yield what ``Client.read_batches`` reads, with its options."""
        reader = await asyncio.to_thread(self._client.read_batches, dataset, **options)
        while (batch := await asyncio.to_thread(_next, reader)) is not None:
            yield batch

    async def sql_batches(self, query: str, **options: Any) -> AsyncIterator[pa.RecordBatch]:
        """Yield what ``Client.sql_batches`` reads, with its options."""
        reader = await asyncio.to_thread(self._client.sql_batches, query, **options)
        while (batch := await asyncio.to_thread(_next, reader)) is not None:
            yield batch

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _next(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None
