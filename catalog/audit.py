"""Who appended what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from catalog.connections import Connections
from timestore.datasets import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendCursor:
    """The place of an append in a dataset's audit; pages go on after it, to older ones."""

    version: int
    append_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedAppend:
    """An append that committed, and who made it; None from before anybody was asked."""

    version: int
    append_id: UUID
    committed_at: datetime
    principal: str | None
    idempotency_key: str
    rows: int
    bytes: int


class Audit:
    """Answers who appended what. Thread safe; each call reads one snapshot."""

    def __init__(self, *, connections: Connections) -> None:
        self._connections = connections

    def appends(
        self, dataset: Dataset, after: AppendCursor, *, principal: str | None, limit: int
    ) -> list[AuditedAppend]:
        """Return a page of a dataset's appends, newest first, of one principal or of all."""
        parameters: dict[str, object] = {
            "dataset_id": dataset.dataset_id,
            "before_version": after.version,
            "before_append": after.append_id,
            "principal": principal,
            "limit": limit,
        }
        rows = self._connections.read("list_appends", parameters)
        return [AuditedAppend(**dict(zip(AuditedAppend.__slots__, row, strict=True))) for row in rows]
