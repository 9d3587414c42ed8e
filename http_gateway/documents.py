"""The JSON of answers, as OpenAPI tells it. Tests hold it against what the server answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Document(BaseModel):
    """An answer. Later versions may add fields."""

    model_config = ConfigDict(extra="allow")


class Problem(Document):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="urn:timestore:error: and the kind.")
    title: str
    status: int
    detail: str = Field(description="What, with names, limits and values, and what to do about it.")
    kind: str = Field(description="The stable name of the error.")
    repeatable: bool = Field(description="Whether the same request may be repeated as it is.")
    details: dict[str, str] = Field(description="Names, limits and values, for programs.")
    retry_after_s: float | None = Field(None, description="Seconds after which to repeat it; under load.")


class ReceiptFile(Document):
    """Rows of an append that landed together."""

    id: str
    window: list[str] = Field(min_length=2, max_length=2)
    rows: int
    bytes: int


class Receipt(Document):
    """Every row is durable and visible, exactly once, at this version."""

    type: str
    v: int
    dataset: str
    incarnation: str
    key: dict[str, str]
    version: int
    append_id: str
    idempotency_key: str
    fingerprint: str
    rows: int
    bytes: int
    landing: str
    files: list[ReceiptFile]
    files_total: int
    committed_at: str
    timings_ms: dict[str, float]
    replayed: bool = Field(description="Whether the append had been committed before.")


class Column(Document):
    """A column of a dataset."""

    name: str
    type: str
    nullable: bool


class DatasetDocument(Document):
    """A dataset."""

    dataset: str
    incarnation: str
    timestamp_column: str
    window: str
    order: str
    evolution: str
    min: str | None
    max: str | None
    future_tolerance_s: float | None
    max_rows_per_put: int | None
    max_bytes: int | None
    retention: str | None
    storage: str
    key_names: list[str] | None
    version: int
    schema_version: int
    oldest_version: int
    arrow_schema: str = Field(alias="schema", description="An Arrow IPC schema, in base64.")
    columns: list[Column]
    created_at: str
    rows: int
    bytes: int
    slices: int
    partitions: int


class ManifestItem(Document):
    """Rows of one partition in one data file."""

    id: str
    uri: str | None
    form: str
    key: dict[str, str]
    window: list[str]
    rows: int
    bytes: int
    min_ts: str
    max_ts: str
    added_version: int


class HistoryItem(Document):
    """A commit."""

    version: int
    kind: str
    committed_at: str
    appends: int
    rows: int


class Page(Document):
    """A part of a table."""

    next: str | None = Field(description="The cursor of the next page; null on the last.")


class DatasetPage(Page):
    """Datasets, by name."""

    items: list[DatasetDocument]


class ManifestPage(Page):
    """What is visible at a version."""

    version: int
    items: list[ManifestItem]


class HistoryPage(Page):
    """Commits, newest first."""

    items: list[HistoryItem]


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request is wrong, or contradicts what holds."},
    "5XX": {"model": Problem, "description": "The server cannot do this, now or at all."},
}
