"""How things end in the catalog: abandoned keys, expired windows, dropped datasets, history, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from catalog.connections import Connections
from catalog.migrate import newest_migration
from timestore.datasets import Dataset
from timestore.durations import Duration
from timestore.errors import error
from timestore.receipt import Receipt
from timestore.storage_target import DEFAULT_STORAGE

PURGE_LIMIT = 500  # slices, or appends, in one transaction
CONDEMNED_PAGE = 500
SWEPT_KEPT = timedelta(days=1)  # longer than any upload hangs
BEFORE_ALL_FILES = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """What one run of a dataset's retention removed."""

    version: int  # the one without it; the newest if there was nothing
    before: datetime | None  # windows that end by then are gone; None for a dataset that keeps everything
    slices: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """The last version of a dataset."""

    version: int
    dropped_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CondemnedFile:
    """A file of no version (any more), whose bytes are to be deleted."""

    holder_id: UUID
    path: str


class Lifecycle:
    """Ends things, each by one transaction of the catalog. Thread safe; every call may be repeated.

    Methods that take a dataset raise ``dataset_not_found`` when it was dropped meanwhile. Every method raises
    ``catalog_unavailable`` when Postgres does not answer in time, and ``fenced`` when the catalog is newer.
    """

    def __init__(self, *, connections: Connections) -> None:
        self._connections = connections
        self._known_migration = newest_migration()

    def abandon(self, dataset: Dataset, idempotency_key: str) -> Receipt | None:
        """Fence an idempotency key for ever; return the receipt instead if an append with it has committed."""
        receipt = self._call("abandon_key", incarnation=dataset.spec.incarnation, idempotency_key=idempotency_key)
        return Receipt.from_json(receipt) if receipt is not None else None

    def expire(self, incarnation: UUID) -> Expiry:
        """Remove the windows past a dataset's retention, as one version."""
        fields = self._call("expire_windows", incarnation=incarnation)
        before = datetime.fromisoformat(fields["before"]) if fields["before"] is not None else None
        removed = {name: int(fields[name]) for name in ("version", "slices", "rows", "bytes")}
        return Expiry(before=before, **removed)

    def drop(self, dataset: Dataset) -> Dropped:
        """Drop a dataset: no version of it can be read any more, and its name is free."""
        fields = self._call("drop_dataset", incarnation=dataset.spec.incarnation)
        return Dropped(version=int(fields["version"]), dropped_at=datetime.fromisoformat(fields["dropped_at"]))

    def set_retention(self, dataset: Dataset, retention: Duration | None) -> None:
        """Change how long a dataset keeps windows after their end; None for ever."""
        parameters: dict[str, object] = {
            "incarnation": dataset.spec.incarnation,
            "retention": retention.text if retention else None,
        }
        if not self._connections.write("set_retention", parameters):
            raise error("dataset_not_found", f"the dataset {dataset.spec.name!r} was dropped meanwhile")

    def expirable(self, storage: str = DEFAULT_STORAGE) -> list[UUID]:
        """Return the incarnations of a storage target's datasets that have windows past their retention."""
        return [incarnation for (incarnation,) in self._connections.write("list_expirable", {"storage": storage})]

    def purge(self, *, retention: timedelta, ticket_lifetime: timedelta, storage: str = DEFAULT_STORAGE) -> int:
        """Cut off history older than ``retention`` and delete what only that saw; return how many rows went.

        First the floor rises; deleting begins one ticket lifetime later, in another call. Files that no version has any
        more are condemned: see ``condemned_files``.
        """
        deleted = 0
        for (dataset_id,) in self._connections.write("list_purgeable", {"storage": storage}):
            self._connections.write("raise_history_floor", {"dataset_id": dataset_id, "retention": retention})
            while count := self._call(
                "purge_history",
                dataset_id=dataset_id,
                retention=retention,
                ticket_lifetime=ticket_lifetime,
                limit=PURGE_LIMIT,
            ):
                deleted += count
        return deleted

    def condemned_files(self, storage: str = DEFAULT_STORAGE, *, after: UUID = BEFORE_ALL_FILES) -> list[CondemnedFile]:
        """Return a page of the files of a storage target whose bytes are to be deleted, by id."""
        parameters: dict[str, object] = {"storage": storage, "after": after, "limit": CONDEMNED_PAGE}
        rows = self._connections.write("list_condemned_files", parameters)
        return [CondemnedFile(holder_id=holder_id, path=path) for holder_id, path in rows]

    def settle_files(self, files: Sequence[CondemnedFile]) -> None:
        """Note that the bytes of condemned files are gone: swept ones are listed once more later, others forgotten."""
        self._connections.write("settle_condemned_files", {"holder_ids": [file.holder_id for file in files]})

    def sweep(self, storage: str = DEFAULT_STORAGE, *, lease: timedelta) -> int:
        """Condemn the files that servers left in a storage target which died or gave up; return how many.

        Safe at any time: a server that is only slow finds its files given up at its commit, and ends as ``fenced``.
        """
        swept: int = self._call("sweep_intents", lease=lease, keep=SWEPT_KEPT, storage=storage)
        return swept

    def horizon(self, storage: str = DEFAULT_STORAGE) -> int:
        """Return how far this catalog has come, as a storage target counts it."""
        [(horizon,)] = self._connections.write("read_horizon", {"storage": storage})
        return int(horizon)

    def raise_horizon(self, storage: str = DEFAULT_STORAGE) -> int:
        """Raise a storage target's horizon if anything was committed since it was raised last; return it."""
        horizon: int = self._call("raise_horizon", storage=storage)
        return horizon

    def _call(self, function: str, **parameters: object) -> Any:
        [(answer,)] = self._connections.write(function, {"known_migration": self._known_migration, **parameters})
        return answer
