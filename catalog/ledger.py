"""The catalog's writing side: leases, intents, the commit, and the lookups that puts need."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from catalog.connections import Connections
from catalog.errors import OutcomeUnknownError, is_disconnect, is_verdict, translated, unavailable
from catalog.migrate import newest_migration
from catalog.records import (
    CatalogIdentity,
    CommitOutcome,
    CommitPlan,
    Intent,
    KnownAppend,
    NewAppend,
    Outcome,
    dataset_from_row,
)
from catalog.sql import QUERIES
from timestore.datasets import Dataset
from timestore.storage_target import DEFAULT_STORAGE

RETRY_PAUSE_S = 0.2


class Ledger:
    """What one run of a server writes into the catalog. Thread safe; each method is one transaction.

    Every method raises ``catalog_unavailable`` when Postgres does not answer in time.
    """

    def __init__(self, *, connections: Connections, run_id: UUID) -> None:
        self._connections = connections
        self._run_id = run_id
        self._known_migration = newest_migration()

    def identity(self, storage: str = DEFAULT_STORAGE) -> CatalogIdentity:
        """Return who this catalog is, and the root of a storage target."""
        [(catalog_id, incarnation, root_id)] = self._connections.write("read_identity", {"storage": storage})
        return CatalogIdentity(catalog_id=catalog_id, incarnation=incarnation, storage_root=root_id)

    def start_lease(self, *, address: str, software_version: str, lease_s: float) -> None:
        self._connections.write(
            "start_lease",
            {"run_id": self._run_id, "address": address, "software_version": software_version, "lease_s": lease_s},
        )

    def renew_lease(self, *, lease_s: float) -> None:
        self._connections.write("renew_lease", {"run_id": self._run_id, "lease_s": lease_s})

    def end_lease(self) -> None:
        self._connections.write("end_lease", {"run_id": self._run_id})

    def find_dataset(self, name: str) -> Dataset | None:
        """Find a live dataset by its name, ignoring case."""
        rows = self._connections.write("find_dataset", {"name": name})
        return dataset_from_row(rows[0]) if rows else None

    def find_for_put(self, name: str, idempotency_key: str) -> tuple[Dataset | None, KnownAppend | None]:
        """Find a dataset like ``find_dataset``, and what an idempotency key stands for in it; None while it is free."""
        rows = self._connections.write("find_for_put", {"name": name, "idempotency_key": idempotency_key})
        if not rows:
            return None, None
        *dataset, state, fingerprint, receipt = rows[0]
        known = KnownAppend.from_row((state, fingerprint, receipt)) if state is not None else None
        return dataset_from_row(tuple(dataset)), known

    def record_intents(self, intents: Sequence[Intent]) -> None:
        """Record files that are about to be written; must return before their first byte."""
        self._connections.write("record_intents", self._intents(intents))

    def condemn_intents(self, holder_ids: Sequence[UUID]) -> list[UUID]:
        """Give files up; return those that no commit has taken, and none can take from now on."""
        parameters: dict[str, object] = {"run_id": self._run_id, "holder_ids": list(holder_ids)}
        return [holder_id for (holder_id,) in self._connections.write("condemn_intents", parameters)]

    def forget_intents(self, holder_ids: Sequence[UUID]) -> None:
        """Forget condemned files whose bytes are deleted."""
        self._connections.write("forget_intents", {"run_id": self._run_id, "holder_ids": list(holder_ids)})

    def settle_storage_root(self, root_id: UUID) -> UUID:
        """Remember which root the target 'default' has, unless that is settled; return the root that it has."""
        parameters: dict[str, object] = {"name": DEFAULT_STORAGE, "root_id": root_id}
        [(settled,)] = self._connections.write("settle_storage_root", parameters)
        return UUID(str(settled))

    def forget_the_time_since(self) -> int:
        """Let a restored catalog begin anew: drop all intents, delete none of their files, and make all tickets void.

        No server may be running. Returns how many intents there were.
        """
        with self._connections.connection() as connection, connection.transaction():
            connection.execute(QUERIES["renew_incarnations"])
            return connection.execute(QUERIES["drop_intents"]).rowcount

    def overtake_horizon(self, stored: int, *, storage: str = DEFAULT_STORAGE) -> int:
        """Raise the horizon over the one found in a target, and return it: this catalog is not older any more."""
        [(horizon,)] = self._connections.write("overtake_horizon", {"stored": stored, "storage": storage})
        return int(horizon)

    def adopt(self, plan: CommitPlan, append: NewAppend) -> CommitOutcome:
        """Publish an append whose files are in storage already, unknown to the catalog.

        Intents and commit are one transaction, for an intent alone would let a sweeper delete its file. Unless the
        outcome is ``COMMITTED``, nothing is changed. Raises like ``commit``; repeating it is safe.
        """
        intents = [Intent(holder_id=new.holder_id, storage=new.storage, path=new.path) for new in append.slices]
        with self._connections.connection() as connection, connection.transaction() as transaction:
            connection.execute(QUERIES["record_intents"], self._intents(intents))
            row = connection.execute(QUERIES["commit_appends"], self._commit(plan, [append])).fetchone()
            assert row is not None  # a SELECT of one value
            outcome = CommitOutcome.from_json(row[0]["outcomes"][0])
            if outcome.outcome is not Outcome.COMMITTED:
                raise psycopg.Rollback(transaction)
        return outcome

    def commit(self, plan: CommitPlan, appends: Sequence[NewAppend], *, deadline: float) -> list[CommitOutcome]:
        """Publish appends of one dataset, all or nothing; an answer for each, in their order.

        ``deadline`` is a time of ``time.monotonic()``. When the connection breaks during the call the same call is made
        again until then: the function finds its own append and answers as the first time.

        Raises ``PlanStaleError`` when the plan no longer holds, ``fenced`` when files were given up, and
        ``OutcomeUnknownError`` when nobody answered in time after the call had been sent: then nothing may be deleted.
        """
        parameters = self._commit(plan, appends)
        lost = False  # whether an attempt may be under way, or done, of which nobody heard
        while True:
            sent = False
            try:
                with self._connections.untranslated() as connection:
                    sent = True
                    row = connection.execute(QUERIES["commit_appends"], parameters).fetchone()
                    assert row is not None  # a SELECT of one value
                    return [CommitOutcome.from_json(outcome) for outcome in row[0]["outcomes"]]
            except psycopg.Error as exc:
                # An earlier attempt may hold the lock still: only what the function itself says is an answer then.
                if is_verdict(exc) or not (is_disconnect(exc) or lost):
                    with translated():
                        raise
                lost = lost or sent
                if time.monotonic() >= deadline:
                    raise (OutcomeUnknownError() if lost else unavailable()) from exc
            time.sleep(RETRY_PAUSE_S)

    def _intents(self, intents: Sequence[Intent]) -> dict[str, object]:
        return {
            "run_id": self._run_id,
            "holder_ids": [intent.holder_id for intent in intents],
            "storages": [intent.storage for intent in intents],
            "paths": [intent.path for intent in intents],
        }

    def _commit(self, plan: CommitPlan, appends: Sequence[NewAppend]) -> dict[str, object]:
        return {
            "known_migration": self._known_migration,
            "dataset": Jsonb(plan.as_json()),
            "appends": Jsonb([append.as_json() for append in appends]),
        }
