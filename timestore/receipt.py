"""Receipts: what a put returns, and the other answers on a put stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from timestore.windows import parse_instant

MAX_RECEIPT_FILES = 100  # a receipt lists so many; `files_total` counts all


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFile:
    """How some rows of an append landed. Where they are now, the manifest says."""

    id: str  # the slice's holder
    window: tuple[str, str]  # RFC 3339, half-open
    rows: int
    bytes: int  # of the data file

    def as_json(self) -> dict[str, object]:
        return {"id": self.id, "window": list(self.window), "rows": self.rows, "bytes": self.bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof of an append: every row durable and visible, exactly once, at ``version``."""

    dataset: str
    incarnation: str
    key: Mapping[str, str]
    version: int
    append_id: str
    idempotency_key: str
    fingerprint: str
    rows: int
    bytes: int  # of Arrow data received, uncompressed
    landing: str
    files: tuple[ReceiptFile, ...]
    files_total: int
    committed_at: datetime
    timings_ms: Mapping[str, float]
    replayed: bool  # whether the append had already been committed by an earlier put

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Receipt:
        """Build a receipt from the JSON object that a server sent or the catalog stored."""
        files = tuple(
            ReceiptFile(id=f["id"], window=(f["window"][0], f["window"][1]), rows=f["rows"], bytes=f["bytes"])
            for f in fields["files"]
        )
        plain = {name: fields[name] for name in _PLAIN_FIELDS}
        return cls(files=files, committed_at=parse_instant(fields["committed_at"]), **plain)

    def as_json(self) -> dict[str, object]:
        """Return the JSON object of PROTOCOL 1."""
        plain = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        return {
            "type": "receipt",
            "v": 1,
            **plain,
            "files": [file.as_json() for file in self.files],
            "committed_at": _with_microseconds(self.committed_at),
        }

    def as_replay(self) -> Receipt:
        return replace(self, replayed=True)


_PLAIN_FIELDS = (
    "dataset",
    "incarnation",
    "key",
    "version",
    "append_id",
    "idempotency_key",
    "fingerprint",
    "rows",
    "bytes",
    "landing",
    "files_total",
    "timings_ms",
    "replayed",
)


def _with_microseconds(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
