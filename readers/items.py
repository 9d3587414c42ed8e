"""The items of the tables that actions answer with: their JSON, and the Arrow columns that say the same."""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa

from catalog.records import HistoryEntry, VisibleSlice
from storage.targets import Targets
from timestore.datasets import Dataset
from timestore.json_object import JsonObject
from timestore.windows import format_instant, to_datetime

_COLUMN = pa.struct([("name", pa.string()), ("type", pa.string()), ("nullable", pa.bool_())])

# Instants are texts, as in JSON: nanoseconds hold too few years, and a number says nothing of its zone.
DATASET_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("incarnation", pa.string()),
        ("timestamp_column", pa.string()),
        ("window", pa.string()),
        ("order", pa.string()),
        ("evolution", pa.string()),
        ("min", pa.string()),
        ("max", pa.string()),
        ("future_tolerance_s", pa.float64()),
        ("max_rows_per_put", pa.int64()),
        ("max_bytes", pa.int64()),
        ("retention", pa.string()),
        ("storage", pa.string()),
        ("key_names", pa.list_(pa.string())),
        ("version", pa.int64()),
        ("schema_version", pa.int64()),
        ("oldest_version", pa.int64()),
        ("schema", pa.string()),
        ("columns", pa.list_(_COLUMN)),
        ("created_at", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("slices", pa.int64()),
        ("partitions", pa.int64()),
    ]
)
MANIFEST_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("form", pa.string()),
        ("key", pa.map_(pa.string(), pa.string())),
        ("window", pa.list_(pa.string())),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("min_ts", pa.string()),
        ("max_ts", pa.string()),
        ("added_version", pa.int64()),
    ]
)
HISTORY_SCHEMA = pa.schema(
    [
        ("version", pa.int64()),
        ("kind", pa.string()),
        ("committed_at", pa.string()),
        ("appends", pa.int64()),
        ("rows", pa.int64()),
    ]
)


def dataset_item(dataset: Dataset) -> dict[str, Any]:
    spec = dataset.spec
    return {
        "dataset": spec.name,
        "incarnation": str(spec.incarnation),
        "timestamp_column": spec.timestamp_column,
        "window": spec.window.text,
        "order": str(spec.order),
        "evolution": str(spec.evolution),
        "min": format_instant(spec.bounds.min) if spec.bounds.min else None,
        "max": format_instant(spec.bounds.max) if spec.bounds.max else None,
        "future_tolerance_s": spec.bounds.future_tolerance_s,
        "max_rows_per_put": spec.limits.max_rows_per_put,
        "max_bytes": spec.limits.max_bytes,
        "retention": dataset.retention.text if dataset.retention else None,
        "storage": spec.storage,
        "key_names": list(dataset.key_names) if dataset.key_names is not None else None,
        "version": dataset.version,
        "schema_version": dataset.schema_version,
        "oldest_version": dataset.history_floor,
        "schema": base64.b64encode(dataset.schema.serialize()).decode(),
        "columns": [
            {"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in dataset.schema
        ],
        "created_at": format_instant(dataset.created_at),
        "rows": dataset.totals.rows,
        "bytes": dataset.totals.bytes,
        "slices": dataset.totals.slices,
        "partitions": dataset.totals.partitions,
    }


def manifest_item(item: VisibleSlice, targets: Targets) -> dict[str, Any]:
    return {
        "id": str(item.holder_id),
        "uri": targets.of(item.storage).url(item.path) if item.storage and item.path else None,
        "form": item.form,
        "key": JsonObject.parse(item.key.encode(), what="key").all_texts(),
        "window": [format_instant(item.window_start), format_instant(item.window_end)],
        "rows": item.rows,
        "bytes": item.bytes,
        "min_ts": _format_nanoseconds(item.min_ts_ns),
        "max_ts": _format_nanoseconds(item.max_ts_ns),
        "added_version": item.added_version,
    }


def history_item(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "version": entry.version,
        "kind": entry.kind,
        "committed_at": format_instant(entry.committed_at),
        "appends": entry.appends,
        "rows": entry.rows,
    }


def _format_nanoseconds(stamp_ns: int) -> str:
    """Spell nanoseconds since the epoch as RFC 3339 with as many digits as needed."""
    seconds, fraction = divmod(stamp_ns, 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return format_instant(to_datetime(seconds)).replace("Z", f"{digits}Z")
