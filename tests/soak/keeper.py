"""Whoever keeps watch while all goes on: reads, expires, drops, and puts datasets away that have grown enough."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import timestore
from tests.soak.book import Book, Report
from tests.soak.checks import Checks, path_of
from tests.soak.client import DROPPED, EXPIRING
from tests.soak.clients import Client
from tests.soak.cluster import Cluster
from tests.soak.events import Stage
from tests.soak.sent import RETENTION
from timestore.errors import NotFoundError

KINDS = ("steady", EXPIRING, DROPPED)
HONEST_ABSENCES = ("dataset_not_found", "version_expired")
PATIENCE_S = 90.0
PAUSE_S = 0.2
CLIENTS_PAUSE_S = 0.4
CLIENTS_PAUSE_WHILE_CHECKING_S = 2.0  # else datasets would grow faster than they are put away


class Keeper:
    """Looks after the datasets. ``run`` is for one thread."""

    def __init__(
        self,
        *,
        book: Book,
        cluster: Cluster,
        clients: Sequence[Client],
        stage_file: Path,
        seed: int,
        appends_per_dataset: int,
        violation: Report,
    ) -> None:
        self._book = book
        self._cluster = cluster
        self._clients = clients
        self._stage_file = stage_file
        self._appends_per_dataset = appends_per_dataset
        self._violation = violation
        self._dice = random.Random(f"keeper {seed}")
        self._client = cluster.servers_for(self._dice).as_one(deadline_s=PATIENCE_S)
        self._checks = Checks(book=book, violation=violation, dice=self._dice)
        self._stage = Stage(number=0, datasets={kind: f"{kind}-0" for kind in KINDS}, pause_s=CLIENTS_PAUSE_S)
        self._write_stage()

    def run(self, ended: threading.Event) -> None:
        """Do one thing after another until ``ended``."""
        while not ended.wait(PAUSE_S):
            for kind in KINDS:
                if self._book.committed_count(self._stage.datasets[kind]) >= self._appends_per_dataset:
                    self._put_away(kind)
            [action] = self._dice.choices((self._look, self._expire, self._drop), weights=(10, 3, 1))
            try:
                action()
            except NotFoundError as exc:  # nobody has created it yet, or it was dropped, or its history was cut
                self._book.counts[f"answers {exc.kind}"] += 1
                if exc.kind not in HONEST_ABSENCES:
                    self._violation(f"{action.__name__}: {exc}")

    def end_stage(self) -> None:
        """Tell all clients to end."""
        self._stage = replace(self._stage, number=self._stage.number + 1, over=True)
        self._write_stage()

    def settle_all(self) -> set[Path]:
        """Check all datasets that are left, with nobody using them; return the files that there must be."""
        for kind, dataset in self._stage.datasets.items():
            self._settle(kind, dataset)
        return _paths_when_nothing_is_due(self._client)

    def _look(self) -> None:
        self._checks.look(self._client, self._stage.datasets[self._dice.choice(KINDS)])

    def _expire(self) -> None:
        self._client.expire(self._stage.datasets[EXPIRING])
        self._book.counts["expiries asked for"] += 1

    def _drop(self) -> None:
        dataset = self._stage.datasets[DROPPED]
        self._client.drop_dataset(dataset, confirm=dataset)
        self._book.counts["datasets dropped in use"] += 1

    def _put_away(self, kind: str) -> None:
        """Replace a dataset that has grown enough by a new one, check it whole, drop it, and delete its files."""
        dataset = self._stage.datasets[kind]
        number = self._stage.number + 1
        datasets = self._stage.datasets | {kind: f"{kind}-{number}"}
        self._stage = Stage(number=number, datasets=datasets, pause_s=CLIENTS_PAUSE_WHILE_CHECKING_S)
        self._write_stage()
        if not self._wait_for_clients():
            self._violation(f"clients did not end with {dataset} within {PATIENCE_S:.0f} s")
        self._settle(kind, dataset)
        with suppress(NotFoundError):
            self._client.drop_dataset(dataset, confirm=dataset)
        self._cluster.delete_what_is_due()
        self._book.counts["datasets put away"] += 1
        self._stage = replace(self._stage, pause_s=CLIENTS_PAUSE_S)
        self._write_stage()

    def _wait_for_clients(self) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while not all(client.has_seen(self._stage.number) for client in self._clients):
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        return True

    def _settle(self, kind: str, dataset: str) -> None:
        """Bring what is in doubt to its end, check everything, and forget it."""
        create: dict[str, Any] | None = {"retention": RETENTION} if kind == EXPIRING else None
        for put, key in self._book.in_doubt(dataset).items():
            self._checks.resolve(self._client, dataset, key, put, create)
        try:
            self._checks.check_whole(self._client, dataset)
        except NotFoundError as exc:
            if exc.kind != "dataset_not_found" or (kind != DROPPED and self._book.committed_count(dataset)):
                self._violation(f"{dataset}, which nobody uses or drops any more: {exc}")
        self._book.close(dataset)

    def _write_stage(self) -> None:
        new = self._stage_file.with_suffix(".new")
        new.write_text(self._stage.as_text())
        new.replace(self._stage_file)


def _paths_when_nothing_is_due(client: timestore.Client) -> set[Path]:
    """Expire what can expire, and return the files of what is left.

    A put of a client that was killed may commit when its dataset has been put away, and so create it anew.
    """
    names = [dataset["dataset"] for dataset in client.datasets()]
    for name in names:
        client.expire(name)
    return {path_of(item) for name in names for item in client.manifest(name)}
