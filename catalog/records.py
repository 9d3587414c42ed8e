"""Values that go into the catalog and come out of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pyarrow as pa

from timestore.datasets import Bounds, Dataset, DatasetSpec, Evolution, Limits, Order, Totals
from timestore.durations import Duration
from timestore.json_object import canonical_json
from timestore.names import PartitionKey
from timestore.reading import PartitionPosition
from timestore.receipt import Receipt
from timestore.windows import TimeWindow, WindowLength, format_instant, parse_instant


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogIdentity:
    """Which catalog this is; ``rebuild`` starts a new incarnation."""

    catalog_id: UUID
    incarnation: UUID
    storage_root: UUID | None  # the id of the root of a storage target, once it is settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A file that is about to be written."""

    holder_id: UUID
    storage: str  # name of the storage target
    path: str  # relative to its root


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSlice:
    """A finished, durable file with the rows of one partition, ready to be published."""

    holder_id: UUID
    storage: str  # name of the storage target
    path: str
    bytes: int  # of the file
    checksum: str
    key: PartitionKey
    window: TimeWindow
    rows: int
    min_ts_ns: int
    max_ts_ns: int
    digest: str

    def as_json(self) -> dict[str, object]:
        return {
            "holder_id": str(self.holder_id),
            "form": "duckdb",
            "storage": self.storage,
            "path": self.path,
            "bytes": self.bytes,
            "checksum": self.checksum,
            "key": canonical_json(self.key.as_dict()),
            "window_start": format_instant(self.window.start),
            "window_end": format_instant(self.window.end),
            "rows": self.rows,
            "min_ts_ns": self.min_ts_ns,
            "max_ts_ns": self.max_ts_ns,
            "digest": self.digest,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAppend:
    """One put, ready to be published."""

    append_id: UUID
    idempotency_key: str
    fingerprint: str
    rows: int
    bytes: int
    principal: str | None
    receipt: Mapping[str, object]  # lacks only version, incarnation and committed_at
    slices: tuple[NewSlice, ...]

    def as_json(self) -> dict[str, object]:
        return {
            "append_id": str(self.append_id),
            "idempotency_key": self.idempotency_key,
            "fingerprint": self.fingerprint,
            "rows": self.rows,
            "bytes": self.bytes,
            "principal": self.principal,
            "receipt": self.receipt,
            "slices": [new.as_json() for new in self.slices],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitPlan:
    """What a commit takes for granted about its dataset; the commit function checks that it still holds."""

    spec: DatasetSpec
    create: bool  # whether the dataset is to be created
    schema_version: int  # the one that was merged with; 0 with ``create``
    new_schema: pa.Schema | None  # if this commit changes the schema
    key_names: tuple[str, ...]
    retention: Duration | None = None  # of a dataset that is to be created

    def as_json(self) -> dict[str, object]:
        encoded = base64.b64encode(self.new_schema.serialize()).decode() if self.new_schema is not None else None
        return {
            "name": self.spec.name,
            "incarnation": str(self.spec.incarnation),
            "timestamp_column": self.spec.timestamp_column,
            "window_length": self.spec.window.text,
            "row_order": str(self.spec.order),
            "evolution": str(self.spec.evolution),
            "bounds": self.spec.bounds.as_json(),
            "max_rows_per_put": self.spec.limits.max_rows_per_put,
            "max_bytes": self.spec.limits.max_bytes,
            "retention": self.retention.text if self.retention else None,
            "storage": self.spec.storage,
            "create": self.create,
            "schema_version": self.schema_version,
            "new_schema": encoded,
            "key_names": list(self.key_names),
        }


class Outcome(StrEnum):
    """What became of one append in a commit."""

    COMMITTED = "committed"
    REPLAYED = "replayed"  # the same append had committed before
    CONFLICT = "conflict"  # another append has the idempotency key
    ABANDONED = "abandoned"  # the idempotency key was fenced
    FULL = "full"  # the dataset would have more bytes than it may


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAppend:
    """What an idempotency key stands for."""

    abandoned: bool
    fingerprint: str | None
    receipt: Receipt | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> KnownAppend:
        state, fingerprint, receipt = row
        return cls(
            abandoned=state == "abandoned",
            fingerprint=fingerprint,
            receipt=Receipt.from_json(receipt) if receipt else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOutcome:
    """The commit function's answer for one append."""

    outcome: Outcome
    known: KnownAppend  # what the idempotency key stands for now; says nothing if ``FULL``
    visible_bytes: int | None  # what the dataset had, if ``FULL``

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> CommitOutcome:
        outcome = Outcome(fields["outcome"])
        row = ("abandoned" if outcome is Outcome.ABANDONED else "committed", fields["fingerprint"], fields["receipt"])
        return cls(outcome=outcome, known=KnownAppend.from_row(row), visible_bytes=fields.get("visible_bytes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleSlice:
    """A slice as a manifest lists it."""

    slice_id: int
    holder_id: UUID
    form: str
    storage: str | None  # name of the storage target of a file
    path: str | None
    checksum: str
    key: str  # canonical JSON
    window_start: datetime
    window_end: datetime
    rows: int
    bytes: int
    min_ts_ns: int
    max_ts_ns: int
    added_version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> VisibleSlice:
        names = cls.__slots__
        values = (int(value) if isinstance(value, Decimal) else value for value in row)
        return cls(**dict(zip(names, values, strict=True)))  # type: ignore[arg-type]  # columns stand in field order


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRun:
    """Neighbouring partitions that one endpoint serves."""

    first: PartitionPosition
    last: PartitionPosition
    rows: int
    bytes: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> PartitionRun:
        _, first_window, first_key, last_window, last_key, rows, size = row
        return cls(
            first=PartitionPosition(window_start=first_window, key=first_key),
            last=PartitionPosition(window_start=last_window, key=last_key),
            rows=rows,
            bytes=size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One commit of a dataset."""

    version: int
    kind: str
    committed_at: datetime
    appends: int
    rows: int


def dataset_from_row(row: tuple[Any, ...]) -> Dataset:
    """Build a dataset from the columns that ``find_dataset`` and ``list_datasets`` select."""
    (dataset_id, name, incarnation, column, window, order, evolution, bounds, key_names, created_at) = row[:10]
    storage, max_rows_per_put, max_bytes, retention, version, schema_version, history_floor, *totals, schema = row[10:]
    slices, rows, size, partitions = totals
    spec = DatasetSpec(
        name=name,
        incarnation=incarnation,
        timestamp_column=column,
        window=WindowLength.parse(window),
        order=Order(order),
        evolution=Evolution(evolution),
        bounds=_bounds(bounds),
        limits=Limits(max_rows_per_put=max_rows_per_put, max_bytes=max_bytes),
        storage=storage,
    )
    return Dataset(
        spec=spec,
        dataset_id=dataset_id,
        version=version,
        schema_version=schema_version,
        schema=pa.ipc.read_schema(pa.py_buffer(schema)),
        key_names=tuple(key_names) if key_names is not None else None,
        history_floor=history_floor,
        created_at=created_at,
        retention=Duration.parse(retention) if retention is not None else None,
        totals=Totals(slices=slices, rows=rows, bytes=size, partitions=partitions),
    )


def _bounds(fields: Mapping[str, Any]) -> Bounds:
    return Bounds(
        min=parse_instant(fields["min"]) if "min" in fields else None,
        max=parse_instant(fields["max"]) if "max" in fields else None,
        future_tolerance_s=fields.get("future_tolerance_s"),
    )
