"""What a dataset is, apart from its rows: timestamp column, window, policies, limits, schema."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import pyarrow as pa

from timestore.durations import Duration
from timestore.errors import error
from timestore.json_object import JsonObject
from timestore.storage_target import DEFAULT_STORAGE, parse_storage_name
from timestore.windows import WindowLength, format_instant, parse_instant

DEFAULT_WINDOW = "1d"


class Order(StrEnum):
    """What a dataset asks of the order of timestamps."""

    ORDERED = "ordered"  # non-decreasing within a put, or the put is refused
    SORT = "sort"  # any order in; each data file is sorted
    ANY = "any"  # any order in and out


class Evolution(StrEnum):
    """How a dataset's schema may change."""

    ADDITIVE = "additive"  # new nullable columns, lossless widening
    NONE = "none"  # not at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of the timestamp column; a row outside is refused."""

    min: datetime | None = None  # included
    max: datetime | None = None  # not included
    future_tolerance_s: float | None = None  # how far after the server's clock

    def as_json(self) -> dict[str, object]:
        fields = {
            "min": format_instant(self.min) if self.min else None,
            "max": format_instant(self.max) if self.max else None,
            "future_tolerance_s": self.future_tolerance_s,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a dataset takes; a put that would pass a limit is refused whole."""

    max_rows_per_put: int | None = None
    max_bytes: int | None = None  # of the visible data files together

    def as_json(self) -> dict[str, object]:
        fields = {"max_rows_per_put": self.max_rows_per_put, "max_bytes": self.max_bytes}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """What a put or ``create_dataset`` says about a dataset; None where it says nothing."""

    timestamp_column: str | None = None
    window: WindowLength | None = None
    order: Order | None = None
    evolution: Evolution | None = None
    bounds: Bounds | None = None
    limits: Limits = Limits()
    retention: Duration | None = None
    storage: str | None = None  # name of a storage target

    @classmethod
    def from_json(cls, fields: JsonObject) -> CreateOptions:
        """Take the fields of ``create``; the caller calls ``finish``. Raises ``descriptor_invalid``."""
        window = fields.text("window")
        order = fields.choice("order", [str(o) for o in Order], "")
        evolution = fields.choice("evolution", [str(e) for e in Evolution], "")
        retention, storage = fields.text("retention"), fields.text("storage")
        return cls(
            timestamp_column=fields.text("timestamp_column"),
            window=WindowLength.parse(window) if window is not None else None,
            order=Order(order) if order else None,
            evolution=Evolution(evolution) if evolution else None,
            bounds=_bounds(fields),
            limits=Limits(
                max_rows_per_put=fields.integer("max_rows_per_put", minimum=1),
                max_bytes=fields.integer("max_bytes", minimum=1),
            ),
            retention=Duration.parse(retention) if retention is not None else None,
            storage=parse_storage_name(storage) if storage is not None else None,
        )

    def as_json(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "timestamp_column": self.timestamp_column,
            "window": self.window.text if self.window else None,
            "order": str(self.order) if self.order else None,
            "evolution": str(self.evolution) if self.evolution else None,
            "retention": self.retention.text if self.retention else None,
            "storage": self.storage,
        }
        said = {name: value for name, value in fields.items() if value is not None}
        return said | (self.bounds.as_json() if self.bounds else {}) | self.limits.as_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """What never changes after a dataset's creation, and decides where its rows go."""

    name: str
    incarnation: UUID
    timestamp_column: str
    window: WindowLength
    order: Order = Order.ORDERED
    evolution: Evolution = Evolution.ADDITIVE
    bounds: Bounds = Bounds()
    limits: Limits = Limits()
    storage: str = DEFAULT_STORAGE  # name of the storage target of all data files

    def disagreement(self, options: CreateOptions) -> str | None:
        """Name the first thing that ``options`` says otherwise; None if it agrees.

        Retention is not among them: it may be changed later, and producers that say the first one must go on.
        """
        bounds = options.bounds or Bounds()
        pairs = (
            ("timestamp_column", self.timestamp_column, options.timestamp_column),
            ("window", self.window, options.window),
            ("order", self.order, options.order),
            ("evolution", self.evolution, options.evolution),
            ("min", self.bounds.min, bounds.min),
            ("max", self.bounds.max, bounds.max),
            ("future_tolerance_s", self.bounds.future_tolerance_s, bounds.future_tolerance_s),
            ("max_rows_per_put", self.limits.max_rows_per_put, options.limits.max_rows_per_put),
            ("max_bytes", self.limits.max_bytes, options.limits.max_bytes),
            ("storage", self.storage, options.storage),
        )
        for what, have, said in pairs:
            if said is not None and said != have:
                return f"{what} is {have!s}, not {said!s}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What is visible at a version, summed."""

    slices: int
    rows: int
    bytes: int  # of data files
    partitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset as the catalog had it at one moment."""

    spec: DatasetSpec
    dataset_id: int
    version: int
    schema_version: int
    schema: pa.Schema
    key_names: tuple[str, ...] | None  # None until the first append fixes them
    history_floor: int  # the oldest version that can be read
    created_at: datetime
    retention: Duration | None  # how long windows are kept after their end; None for ever
    totals: Totals  # of ``version``


def _bounds(fields: JsonObject) -> Bounds | None:
    lower, upper = fields.text("min"), fields.text("max")
    bounds = Bounds(
        min=parse_instant(lower) if lower is not None else None,
        max=parse_instant(upper) if upper is not None else None,
        future_tolerance_s=fields.number("future_tolerance_s"),
    )
    if bounds.min is not None and bounds.max is not None and bounds.min >= bounds.max:
        raise error("descriptor_invalid", f"min ({lower}) must be before max ({upper}), or no row could ever be taken")
    return bounds if bounds != Bounds() else None
