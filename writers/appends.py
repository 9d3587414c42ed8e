"""An append as it is published: its slices, and the receipt that the catalog keeps with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from catalog.records import NewAppend, NewSlice
from timestore.names import PartitionKey
from timestore.receipt import MAX_RECEIPT_FILES, ReceiptFile


def new_append(
    *,
    dataset: str,
    key: PartitionKey,
    append_id: UUID,
    idempotency_key: str,
    fingerprint: str,
    rows: int,
    arrow_bytes: int,
    principal: str | None,
    slices: Sequence[NewSlice],
    timings_ms: Mapping[str, float],
) -> NewAppend:
    """Return an append of rows that are in storage; the commit adds to the receipt what only it knows."""
    receipt: dict[str, object] = {
        "type": "receipt",
        "v": 1,
        "dataset": dataset,
        "key": key.as_dict(),
        "append_id": str(append_id),
        "idempotency_key": idempotency_key,
        "fingerprint": fingerprint,
        "rows": rows,
        "bytes": arrow_bytes,
        "landing": "file",
        "files": [_receipt_file(new).as_json() for new in slices[:MAX_RECEIPT_FILES]],
        "files_total": len(slices),
        "timings_ms": dict(timings_ms),
        "replayed": False,
    }
    return NewAppend(
        append_id=append_id,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
        rows=rows,
        bytes=arrow_bytes,
        principal=principal,
        receipt=receipt,
        slices=tuple(slices),
    )


def _receipt_file(new: NewSlice) -> ReceiptFile:
    start, end = new.window.as_texts()
    return ReceiptFile(id=str(new.holder_id), window=(start, end), rows=new.rows, bytes=new.bytes)
