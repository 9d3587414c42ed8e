"""Commits over a bad network: PROTOCOL 5, "Unknown outcome"."""

from __future__ import annotations

import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.server import StartService

SENT = cpu_table(20_000)


@pytest.mark.parametrize("answer", [True, False], ids=["answer lost", "statement lost"])
@pytest.mark.parametrize("first", [True, False], ids=["first append", "later append"])
def test_cut_during_the_commit(start_service: StartService, proxy: PostgresProxy, answer: bool, first: bool) -> None:
    """A connection that breaks during the commit leaves one append and one receipt, not a replay and not two."""
    service = start_service(catalog_dsn=proxy.dsn)
    with timestore.connect(service.url, retries=False) as client:
        if not first:
            client.append("cpu", SENT, idempotency_key="before")
        proxy.cut_once(b"SELECT commit_appends(", answer=answer)

        receipt = client.append("cpu", SENT, idempotency_key="a")

        assert proxy.cuts == 1
        assert (receipt.replayed, receipt.version) == (False, 1 if first else 2)
        assert client.append("cpu", SENT, idempotency_key="a") == receipt.as_replay()
        assert client.read("cpu", version=1).equals(SENT)
        assert client.stats()["intents"] == 0


@pytest.mark.parametrize("statement", [b"INSERT INTO intents", b"LEFT JOIN appends"])
def test_cut_before_the_commit(start_service: StartService, proxy: PostgresProxy, statement: bytes) -> None:
    """A connection that breaks before the commit fails the put retryably; the retry makes it, once."""
    service = start_service(catalog_dsn=proxy.dsn)
    with timestore.connect(service.url, retries=False) as client:
        client.append("cpu", cpu_table(10, offset=100_000), idempotency_key="before")
        proxy.cut_once(statement, answer=False)

        with pytest.raises(timestore.errors.RetryableError) as caught:
            client.append("cpu", SENT, idempotency_key="a")

        assert (caught.value.kind, proxy.cuts) == ("catalog_unavailable", 1)
        assert client.append("cpu", SENT, idempotency_key="a").version == 2
        assert client.describe("cpu")["rows"] == 20_010
