"""The catalog's reading side: datasets, versions, manifests, history. Never on the connections that commits use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa

from catalog.connections import Connections
from catalog.records import (
    HistoryEntry,
    KnownAppend,
    PartitionRun,
    VisibleSlice,
    dataset_from_row,
)
from timestore.datasets import Dataset
from timestore.errors import TimestoreError, error
from timestore.json_object import canonical_json, parse_int64
from timestore.reading import AsOf, PartitionPosition, Selection
from timestore.storage_target import DEFAULT_STORAGE
from timestore.windows import MAX_INSTANT_S, MIN_INSTANT_S, format_instant, parse_instant, to_seconds

PAGE_SLICES = 500
MAX_WHOLE_KEYS = 2_000
_BEFORE_ALL_WINDOWS = datetime(1, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class SliceCursor:
    """The place of a slice in a manifest's order; pages go on after it."""

    window_start: datetime = _BEFORE_ALL_WINDOWS
    key: str = ""
    added_version: int = -1
    slice_id: int = -1

    @classmethod
    def after(cls, item: VisibleSlice) -> SliceCursor:
        return cls(
            window_start=item.window_start, key=item.key, added_version=item.added_version, slice_id=item.slice_id
        )

    def as_texts(self) -> list[str]:
        return [format_instant(self.window_start), self.key, str(self.added_version), str(self.slice_id)]

    @classmethod
    def from_texts(cls, texts: list[str]) -> SliceCursor:
        """Read what ``as_texts`` wrote; raises ``descriptor_invalid``."""
        window_start, key, added_version, slice_id = texts
        try:
            return cls(
                window_start=parse_instant(window_start),
                key=key,
                added_version=parse_int64(added_version),
                slice_id=parse_int64(slice_id),
            )
        except ValueError as exc:
            raise error("descriptor_invalid", "the cursor is not one that a page of a manifest gave as next") from exc


class Manifests:
    """What is visible, at any version that history still has. Thread safe; each method reads one snapshot."""

    def __init__(self, *, connections: Connections) -> None:
        self._connections = connections

    def dataset(self, name: str) -> Dataset:
        """Return a dataset as it is now; raises ``dataset_not_found``."""
        rows = self._connections.read("find_dataset", {"name": name})
        if not rows or rows[0][1] != name:
            raise error(
                "dataset_not_found",
                f"there is no dataset named {name!r}; the first put or create_dataset creates one",
                details={"dataset": name},
            )
        return dataset_from_row(rows[0])

    def dataset_of_ticket(self, name: str, incarnation: UUID, version: int) -> Dataset:
        """Return the dataset that a ticket was given out for, if what it saw is still there.

        A ticket stays good while its version leaves the history, until that is deleted a ticket lifetime later. Raises
        ``version_expired`` then and when the dataset was dropped, ``dataset_not_found`` if it never was, and
        ``version_not_found``.
        """
        rows = self._connections.read("find_incarnation", {"incarnation": incarnation})
        if not rows:
            self.dataset(name)  # raises if there is none of that name either
        if not rows or not rows[0][0] or rows[0][3] != name:
            raise error(
                "version_expired",
                f"the ticket is for another dataset named {name!r}, which was dropped; ask for a new one",
                details={"dataset": name},
            )
        _, purged_below, *row = rows[0]
        dataset = dataset_from_row(tuple(row))
        if version > dataset.version:
            raise _no_such_version(dataset, version)
        if version < purged_below:
            raise _expired(dataset, version)
        return dataset

    def find(self, name: str) -> Dataset | None:
        """Return the dataset of that name, however its case; None if there is none."""
        rows = self._connections.read("find_dataset", {"name": name})
        return dataset_from_row(rows[0]) if rows else None

    def check(self) -> None:
        """Ask the catalog anything; raises ``catalog_unavailable`` if it does not answer."""
        self._connections.read("read_identity", {"storage": DEFAULT_STORAGE})

    def datasets(self, *, after: str, limit: int, prefix: str = "", patterns: list[str] | None = None) -> list[Dataset]:
        """Return a page of the datasets whose names begin with ``prefix``, by name.

        ``patterns`` of LIKE, on names in lower case, narrow it further.
        """
        rows = self._connections.read(
            "list_datasets", {"after": after, "limit": limit, "prefix": prefix, "patterns": patterns}
        )
        return [dataset_from_row(row) for row in rows]

    def resolve(self, dataset: Dataset, as_of: AsOf) -> int:
        """Return the version that ``as_of`` means; raises ``version_not_found`` or ``version_expired``."""
        version = as_of.version if as_of.moment is None else self._version_at(dataset, as_of.moment)
        if version is None:
            return dataset.version
        if version > dataset.version:
            raise _no_such_version(dataset, version)
        if version < dataset.history_floor:
            raise _expired(dataset, version)
        return version

    def schema_at(self, dataset: Dataset, version: int) -> pa.Schema:
        """Return the Arrow schema that a version has."""
        rows = self._connections.read("schema_at", {"dataset_id": dataset.dataset_id, "version": version})
        return pa.ipc.read_schema(pa.py_buffer(rows[0][0])) if rows else dataset.schema

    def slices(
        self,
        dataset: Dataset,
        version: int,
        selection: Selection,
        *,
        cursor: SliceCursor | None = None,
        last: PartitionPosition | None = None,
        limit: int = PAGE_SLICES,
    ) -> list[VisibleSlice]:
        """Return a page of the slices visible at a version, ordered by window, key and version.

        Raises ``version_expired`` when some of them may have been deleted meanwhile.
        """
        filters = self._filters(dataset, version, selection)
        cursor = max(cursor or SliceCursor(), SliceCursor(window_start=filters["first_window"]))
        rows = self._connections.read(
            "list_slices",
            filters
            | {
                "after_window": cursor.window_start,
                "after_key": cursor.key,
                "after_version": cursor.added_version,
                "after_slice": cursor.slice_id,
                "last_window": last.window_start if last else None,
                "last_key": last.key if last else None,
                "limit": limit,
            },
        )
        self._check_kept(dataset, version)
        return [VisibleSlice.from_row(row) for row in rows]

    def all_slices(
        self,
        dataset: Dataset,
        version: int,
        selection: Selection,
        *,
        first: PartitionPosition | None = None,
        last: PartitionPosition | None = None,
    ) -> Iterator[VisibleSlice]:
        """Yield every slice from one partition to another, page by page at a fixed version.

        Raises ``version_expired`` when what the version saw is being deleted meanwhile.
        """
        cursor = SliceCursor(window_start=first.window_start, key=first.key) if first else None
        while page := self.slices(dataset, version, selection, cursor=cursor, last=last):
            yield from page
            cursor = SliceCursor.after(page[-1])

    def partition_runs(
        self, dataset: Dataset, version: int, selection: Selection, *, groups: int
    ) -> list[PartitionRun]:
        """Cut the visible partitions into at most ``groups`` runs of neighbours, in order."""
        rows = self._connections.read(
            "group_partitions", self._filters(dataset, version, selection) | {"groups": groups}
        )
        return [PartitionRun.from_row(row) for row in rows]

    def history(self, dataset: Dataset, *, before: int, limit: int) -> list[HistoryEntry]:
        """Return a page of a dataset's commits older than a version, newest first."""
        parameters: dict[str, object] = {"dataset_id": dataset.dataset_id, "before": before, "limit": limit}
        return [
            HistoryEntry(version=version, kind=kind, committed_at=moment, appends=appends, rows=rows)
            for version, kind, moment, appends, rows in self._connections.read("list_history", parameters)
        ]

    def append(self, dataset: Dataset, idempotency_key: str) -> KnownAppend | None:
        """Return what an idempotency key stands for; None while it is free."""
        parameters = {"dataset_id": dataset.dataset_id, "idempotency_key": idempotency_key}
        rows = self._connections.read("find_append", parameters)
        return KnownAppend.from_row(rows[0]) if rows else None

    def counts(self) -> dict[str, int]:
        """Count datasets, appends, open intents and condemned files of the whole catalog."""
        [(datasets, appends, intents, condemned)] = self._connections.read("count_catalog")
        return {"datasets": datasets, "appends": appends, "intents": intents, "condemned_files": condemned}

    def _check_kept(self, dataset: Dataset, version: int) -> None:
        """Look, after slices were read, whether any could have been missing: deletion says so in its transaction."""
        rows = self._connections.read("read_purged_below", {"dataset_id": dataset.dataset_id})
        if not rows or version < rows[0][0]:
            raise _expired(dataset, version)

    def _filters(self, dataset: Dataset, version: int, selection: Selection) -> dict[str, Any]:
        """Say which slices are meant, in terms that indexes serve: windows, and whole keys while they are few."""
        parts = canonical_json(selection.key.as_dict())
        return {
            "dataset_id": dataset.dataset_id,
            "version": version,
            "parts": parts,
            "keys": self._whole_keys(dataset, parts) if selection.key.parts else None,
            "start_ns": _nanoseconds(selection.start),
            "end_ns": _nanoseconds(selection.end),
            "first_window": _first_window(dataset, selection.start),
            "end": selection.end or datetime.max.replace(tzinfo=UTC),
        }

    def _whole_keys(self, dataset: Dataset, parts: str) -> list[str] | None:
        """Return the keys that have some parts; None if they are so many that looking at each slice is as quick."""
        parameters: dict[str, object] = {"dataset_id": dataset.dataset_id, "parts": parts, "limit": MAX_WHOLE_KEYS + 1}
        keys = [key for (key,) in self._connections.read("find_keys", parameters)]
        return keys if len(keys) <= MAX_WHOLE_KEYS else None

    def _version_at(self, dataset: Dataset, moment: datetime) -> int:
        rows = self._connections.read("version_at", {"dataset_id": dataset.dataset_id, "moment": moment})
        return rows[0][0] or 0


def _no_such_version(dataset: Dataset, version: int) -> TimestoreError:
    return error(
        "version_not_found",
        f"{dataset.spec.name!r} has no version {version} yet; the newest is {dataset.version}",
        details={"dataset": dataset.spec.name, "version": version, "newest": dataset.version},
    )


def _expired(dataset: Dataset, version: int) -> TimestoreError:
    return error(
        "version_expired",
        f"version {version} of {dataset.spec.name!r} is past retention; the oldest is {dataset.history_floor}",
        details={"dataset": dataset.spec.name, "version": version, "oldest": dataset.history_floor},
    )


def _first_window(dataset: Dataset, start: datetime | None) -> datetime:
    """Return the start of the earliest window that can have rows from ``start`` on: windows are found by an index."""
    if start is None:
        return _BEFORE_ALL_WINDOWS
    instant_s = min(max(to_seconds(start), MIN_INSTANT_S), MAX_INSTANT_S - 1)
    return dataset.spec.window.containing(instant_s).start


def _nanoseconds(moment: datetime | None) -> int | None:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000 if moment else None
