"""Cost never grows with what is already there."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from uuid import UUID

import pytest

import timestore
from catalog.connections import Connections
from catalog.ledger import Ledger
from catalog.records import CommitPlan, NewAppend
from storage.horizon import read_horizon
from storage.local import LocalStore
from tests.fixtures.data import cpu_table
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.server import StartService, wait_until
from timestore.identifiers import uuid7

GROUP = 500


def test_statements_per_append(
    start_service: StartService,
    proxy: PostgresProxy,
    connections: Connections,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first append and the ten-thousandth cost the same number of SQL statements."""
    monkeypatch.setattr("timestore_app.background.HORIZON_INTERVAL_S", threading.TIMEOUT_MAX)
    service = start_service(catalog_dsn=proxy.dsn)
    wait_until(lambda: read_horizon(LocalStore(root=tmp_path / "data")) > 0)
    with timestore.connect(service.url) as client:
        client.append("other", cpu_table(10))  # the pools have their connections
        first = _statements(proxy, client, 0)
        second = _statements(proxy, client, 1)
        _commit_many(connections, client, 10_000)
        last = _statements(proxy, client, 2)

        assert client.describe("cpu")["version"] >= 3
        assert client.stats()["appends"] >= 10_000
    assert first == second == last


def _statements(proxy: PostgresProxy, client: timestore.Client, number: int) -> int:
    before = proxy.statements
    client.append("cpu", cpu_table(10, offset=number))
    return proxy.statements - before


def _commit_many(connections: Connections, client: timestore.Client, count: int) -> None:
    """Commit empty appends straight into the catalog."""
    ledger = Ledger(connections=connections, run_id=uuid7())
    dataset = ledger.find_dataset("cpu")
    assert dataset is not None
    plan = CommitPlan(
        spec=dataset.spec, create=False, schema_version=dataset.schema_version, new_schema=None, key_names=()
    )
    for start in range(0, count, GROUP):
        appends = [_append(uuid7(), f"many-{start + number}") for number in range(GROUP)]
        ledger.commit(plan, appends, deadline=time.monotonic() + 30)


def _append(append_id: UUID, key: str) -> NewAppend:
    receipt = {
        "dataset": "cpu", "key": {}, "append_id": str(append_id), "idempotency_key": key, "fingerprint": "f1:0",
        "rows": 0, "bytes": 0, "landing": "file", "files": [], "files_total": 0, "timings_ms": {}, "replayed": False,
    }  # fmt: skip
    return NewAppend(
        append_id=append_id,
        idempotency_key=key,
        fingerprint="f1:0",
        rows=0,
        bytes=0,
        principal=None,
        receipt=receipt,
        slices=(),
    )
