"""Where a data file's rows came from, as the file itself says: all that is left of it where the catalog is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pyarrow as pa

PROVENANCE_COLUMNS = (
    "file_id",
    "dataset",
    "key",
    "window_start",
    "window_end",
    "timestamp_column",
    "arrow_schema",
    "row_count",
    "arrow_bytes",
    "digest",
    "appends",
    "replaces",
    "written_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAppend:
    """What a file says about an append that it has rows of."""

    append_id: UUID
    idempotency_key: str
    fingerprint: str | None  # None in files that were finished before their stream had ended
    total_rows: int | None  # likewise
    rows: int  # of the append, in this file


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The one row of ``timestore_file``."""

    file_id: UUID
    dataset: str
    key: str  # canonical JSON
    window_start: datetime
    window_end: datetime
    timestamp_column: str
    schema: pa.Schema  # the one its rows were sent with
    rows: int
    arrow_bytes: int
    digest: str
    appends: tuple[RecordedAppend, ...]
    replaces: tuple[UUID, ...]  # files whose rows this one has as well
    written_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Provenance:
        return cls(
            file_id=UUID(row["file_id"]),
            dataset=row["dataset"],
            key=row["key"],
            window_start=row["window_start"],
            window_end=row["window_end"],
            timestamp_column=row["timestamp_column"],
            schema=pa.ipc.read_schema(pa.py_buffer(row["arrow_schema"])),
            rows=row["row_count"],
            arrow_bytes=row["arrow_bytes"],
            digest=row["digest"],
            appends=tuple(
                RecordedAppend(**append | {"append_id": UUID(append["append_id"])}) for append in row["appends"]
            ),
            replaces=tuple(map(UUID, row["replaces"])),
            written_at=row["written_at"],
        )
