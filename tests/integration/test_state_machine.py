"""The promise of the design as a state machine: whatever is done in whatever order, a plain model says what must come.

The server is a real one; it is closed and opened again, its clients stop halfway, and answers of its catalog are lost
while it commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import timestore
from catalog.connections import Connections
from catalog.lifecycle import Lifecycle
from storage.local import LocalStore
from storage.targets import Targets
from tests.fixtures.dataset_model import DAYS, RETENTION, DatasetModel, Put
from tests.fixtures.files import manifest_paths, published_files
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import StartService
from timestore.errors import TimestoreError
from timestore_app.service import Service
from writers.housekeeping import Housekeeping

EXAMPLES_SHARE = 12  # of the profile's: an example is many steps
COMMIT = b"SELECT commit_appends("
NOW = timedelta(0)
CREATE = {"retention": RETENTION}

PUTS = st.builds(
    Put,
    site=st.sampled_from(["north", "south"]),
    rows=st.lists(st.tuples(st.sampled_from(DAYS), st.integers(0, 3)), max_size=5).map(
        lambda rows: tuple(sorted(rows))
    ),
    shape=st.sampled_from(["narrow", "narrow", "wide", "extra", "text"]),
)
NAMES = st.sampled_from(["cpu", "disk"])
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])


class _Site:
    """A catalog behind a proxy and a storage, for all examples; each has datasets of its own."""

    def __init__(self, *, start: StartService, proxy: PostgresProxy, connections: Connections, storage: Path) -> None:
        self._start = start
        self.proxy = proxy
        self._connections = connections
        self.storage = storage
        self.examples = count()
        self.service: Service = self._open()

    def restart(self) -> None:
        """Close the server, and open another one on what it leaves."""
        self.service.close()
        self.service = self._open()

    @contextmanager
    def client(self) -> Iterator[timestore.Client]:
        """Connect to the server that runs now."""
        with timestore.connect(self.service.url, retries=False) as client:
            yield client

    def keep_house(self) -> None:
        """Delete everything that only older versions saw, as if all retentions were over."""
        housekeeping = Housekeeping(
            lifecycle=Lifecycle(connections=self._connections),
            targets=Targets(default=LocalStore(root=self.storage)),
            history_retention=NOW,
            ticket_lifetime=NOW,
            lease=NOW,
        )
        housekeeping.run()
        housekeeping.run()  # files whose last slices the first has deleted

    def _open(self) -> Service:
        return self._start(catalog_dsn=self.proxy.dsn, writer_threads=1)


class _Promise(RuleBasedStateMachine):
    """What clients, operators and accidents do."""

    site: _Site

    @initialize()
    def begin(self) -> None:
        """Take names that no other example has."""
        self._example = next(self.site.examples)
        self._datasets: dict[str, DatasetModel] = {}

    @rule(name=NAMES, key=KEYS, put=PUTS)
    def put(self, name: str, key: str, put: Put) -> None:
        """Send anything under any key: new, again, or in contradiction."""
        self._send(name, key, put)

    @precondition(lambda self: any(dataset.committed for dataset in self._datasets.values()))
    @rule(data=st.data(), cut=st.integers(1, 3))
    def repeat(self, data: st.DataObject, cut: int) -> None:
        """Send what has committed once more, in other batches."""
        name = data.draw(st.sampled_from(sorted(name for name, each in self._datasets.items() if each.committed)))
        key = data.draw(st.sampled_from(sorted(self._datasets[name].committed)))
        self._send(name, key, self._datasets[name].committed[key][0], cut=cut)

    @rule(name=NAMES, key=KEYS, put=PUTS, answer=st.booleans())
    def put_over_a_bad_network(self, name: str, key: str, put: Put, answer: bool) -> None:
        """Lose the next commit on its way, or its answer."""
        self.site.proxy.cut_once(COMMIT, answer=answer)
        self._send(name, key, put)

    @rule(name=NAMES, key=KEYS, put=PUTS)
    def stop_halfway(self, name: str, key: str, put: Put) -> None:
        """End a stream without its sign: it must not commit, whatever the key stands for."""
        dataset = self._datasets.get(name, DatasetModel())
        try:
            half = RawPut(
                self.site.service.url,
                command(dataset=self._full(name), key={"site": put.site}, idempotency_key=key, create=CREATE),
                put.schema,
            )
            half.send(put.table().slice(0, len(put.rows) // 2))
            half.finish()
            kind = "a receipt"
        except TimestoreError as exc:
            kind = exc.kind
        allowed = {dataset.refusal(key, put), "end_missing"} if key not in dataset.committed else {"end_missing"}
        assert kind in allowed, f"half a put ended with {kind}"

    @rule(name=NAMES, key=KEYS)
    def abandon(self, name: str, key: str) -> None:
        """Give a key up for ever, unless it has committed."""
        dataset = self._datasets.get(name)
        with self.site.client() as client:
            if dataset is None:
                assert _kind(lambda: client.abandon(self._full(name), key)) == "dataset_not_found"
                return
            answer = client.abandon(self._full(name), key)
        assert answer["abandoned"] == (key not in dataset.committed)
        if key in dataset.committed:
            assert answer["receipt"] == dataset.committed[key][1].as_json()
        else:
            dataset.abandoned.add(key)

    @precondition(lambda self: self._datasets)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """Remove the old windows."""
        name = data.draw(st.sampled_from(sorted(self._datasets)))
        gone = self._datasets[name].expire()
        with self.site.client() as client:
            assert client.expire(self._full(name))["rows"] == gone

    @precondition(lambda self: self._datasets)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Drop a dataset: its name, keys and versions begin anew."""
        name = data.draw(st.sampled_from(sorted(self._datasets)))
        del self._datasets[name]
        with self.site.client() as client:
            client.drop_dataset(self._full(name), confirm=self._full(name))

    @rule()
    def restart(self) -> None:
        """End the server and start another one."""
        self.site.restart()

    @precondition(lambda self: self._datasets)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """Read at any version: every row that belongs there, in its order, and no other."""
        name = data.draw(st.sampled_from(sorted(self._datasets)))
        version = data.draw(st.integers(1, len(self._datasets[name].versions)))
        with self.site.client() as client:
            self._compare_version(client, name, version)

    @invariant()
    def totals_agree(self) -> None:
        """The newest version of each dataset has the rows it must have."""
        with self.site.client() as client:
            described = {each["dataset"]: (each["version"], each["rows"]) for each in client.datasets()}
        for name in ("cpu", "disk"):
            dataset = self._datasets.get(name)
            newest = len(dataset.versions) if dataset else 0
            expected = (newest, sum(each[3] for each in dataset.slices(newest))) if dataset else None
            assert described.get(self._full(name)) == expected

    def teardown(self) -> None:
        """Compare everything at every version; then no file is left that no dataset has."""
        if not hasattr(self, "_datasets"):
            return
        expected: set[Path] = set()
        with self.site.client() as client:
            for name, dataset in self._datasets.items():
                self._compare_whole(client, name, dataset)
                client.expire(self._full(name))
            self.site.keep_house()
            for name in self._datasets:
                expected |= set(manifest_paths(client, self._full(name)))
            present = {
                path for name in ("cpu", "disk") for path in published_files(self.site.storage / self._full(name))
            }
            assert present == expected
            assert client.stats()["intents"] == 0
            for name in self._datasets:
                client.drop_dataset(self._full(name), confirm=self._full(name))
        self.site.keep_house()

    def _send(self, name: str, key: str, put: Put, *, cut: int = 0) -> None:
        """Send a put and hold its answer against the model."""
        dataset = self._datasets.get(name, DatasetModel())
        refusal = dataset.refusal(key, put)
        data = [put.table().slice(0, cut), put.table().slice(cut)] if cut else put.table()
        with self.site.client() as client:

            def append() -> timestore.Receipt:
                return client.append(self._full(name), data, key={"site": put.site}, idempotency_key=key, create=CREATE)

            if refusal is not None:
                assert _kind(append) == refusal
                return
            receipt = append()
        if key in dataset.committed:
            assert receipt == dataset.committed[key][1].as_replay()
            return
        dataset.commit(key, put, receipt)
        assert (receipt.replayed, receipt.version, receipt.rows) == (False, len(dataset.versions), len(put.rows))
        self._datasets[name] = dataset

    def _compare_whole(self, client: timestore.Client, name: str, dataset: DatasetModel) -> None:
        for version in range(1, len(dataset.versions) + 1):
            self._compare_version(client, name, version)
        history = [
            (each["version"], each["kind"], each["appends"], each["rows"]) for each in client.history(self._full(name))
        ]
        assert history[::-1] == [
            (number, each.kind, each.appends, each.rows) for number, each in enumerate(dataset.versions, 1)
        ]
        for key, (_, receipt) in dataset.committed.items():
            assert client.receipt(self._full(name), key) == receipt
        for key in dataset.abandoned:
            assert _kind(partial(client.receipt, self._full(name), key)) == "idempotency_abandoned"

    def _compare_version(self, client: timestore.Client, name: str, version: int) -> None:
        dataset, full = self._datasets[name], self._full(name)
        items = client.manifest(full, version=version)
        listed = [(each["window"][0], each["key"]["site"], each["added_version"], each["rows"]) for each in items]
        assert listed == dataset.slices(version)
        read = client.read(full, version=version, with_key=True)
        expected = dataset.table(version)
        assert read.select(expected.column_names).equals(expected)

    def _full(self, name: str) -> str:
        return f"{name}-{self._example}"


def _kind(call: Callable[[], Any]) -> str:
    """Return as what a call is refused."""
    with pytest.raises(TimestoreError) as caught:
        call()
    return caught.value.kind


@pytest.mark.timeout(1_200)
@pytest.mark.hypothesis
def test_promise(start_service: StartService, proxy: PostgresProxy, connections: Connections, tmp_path: Path) -> None:
    """In every order of puts, retries, conflicts, evolution, accidents and ends, all answers and versions are right."""
    site = _Site(start=start_service, proxy=proxy, connections=connections, storage=tmp_path / "data")
    run_state_machine_as_test(
        type("Promise", (_Promise,), {"site": site}),
        settings=settings(
            max_examples=settings().max_examples // EXAMPLES_SHARE,
            # A smaller example of a failure takes minutes to find, as every step asks a server: `make fuzz` does it.
            phases=[phase for phase in Phase if phase is not Phase.shrink or settings().max_examples > 100],
            suppress_health_check=list(HealthCheck),
        ),
    )
