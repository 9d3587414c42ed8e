"""The actions of ``do_action``: JSON in, JSON out. One table names them all."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from catalog.manifests import Manifests, SliceCursor
from catalog.records import HistoryEntry, VisibleSlice
from storage.marker import MARKER_PATH
from storage.store import Store
from timestore import __version__
from timestore.datasets import CreateOptions, Dataset
from timestore.descriptor import PROTOCOL_VERSION
from timestore.errors import TimestoreError, error
from timestore.json_object import JsonObject, canonical_json, parse_int64
from timestore.names import parse_dataset_name, parse_idempotency_key
from timestore.reading import AsOf, Selection
from timestore.windows import format_instant, to_datetime
from writers.ingestion import Ingestion
from writers.new_put import Workshop

PAGE_ITEMS = 500

Results = Iterator[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action: its name, what it does, and the function that does it."""

    name: str
    help: str
    run: Callable[[JsonObject], Results]


class Actions:
    """What ``do_action`` and ``list_actions`` know. Thread safe."""

    def __init__(self, *, manifests: Manifests, ingestion: Ingestion, shared: Workshop, store: Store) -> None:
        self._manifests = manifests
        self._ingestion = ingestion
        self._shared = shared
        self._store = store
        self.table = {
            action.name: action
            for action in (
                Action(name="health", help="Say whether the server can take puts.", run=self._health),
                Action(name="list_datasets", help="List the datasets, by name. Body: {v}.", run=self._list_datasets),
                Action(
                    name="create_dataset",
                    help="Create a dataset without rows. Body: {v, dataset, schema (base64 of an Arrow IPC schema), "
                    "timestamp_column, window, order, evolution, min, max, future_tolerance_s}.",
                    run=self._create_dataset,
                ),
                Action(name="describe_dataset", help="Describe a dataset. Body: {v, dataset}.", run=self._describe),
                Action(
                    name="manifest",
                    help="List the files visible at a version. Body: {v, dataset, version | as_of, key, from, to}.",
                    run=self._manifest,
                ),
                Action(
                    name="receipt",
                    help="Return the receipt of an append. Body: {v, dataset, idempotency_key}.",
                    run=self._receipt,
                ),
                Action(
                    name="history",
                    help="List a dataset's commits, newest first. Body: {v, dataset}.",
                    run=self._history,
                ),
                Action(name="stats", help="Return counts and memory of this server.", run=self._stats),
            )
        }

    def run(self, name: str, body: bytes) -> Results:
        """Run an action; each result is one JSON object. Raises ``action_unknown`` and what the action raises."""
        action = self.table.get(name)
        if action is None:
            raise error(
                "action_unknown",
                f"there is no action {name[:60]!a}; there are {sorted(self.table)}",
                details={"action": name[:60]},
            )
        fields = JsonObject.parse(body or b'{"v":1}', what=f"body of {name}")
        fields.version(PROTOCOL_VERSION)
        return action.run(fields)

    def _health(self, fields: JsonObject) -> Results:
        fields.finish()
        yield {
            "status": "ok" if self._ingestion.accepts_puts else "refusing puts",
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "catalog": _reachable(self._manifests.counts),
            "storage": _reachable(lambda: self._store.stat(MARKER_PATH)),
        }

    def _list_datasets(self, fields: JsonObject) -> Results:
        after = _cursor(fields, default=[""])
        fields.finish()
        yield from _pages(
            lambda cursor: self._manifests.datasets(after=cursor[0], limit=PAGE_ITEMS),
            start=after,
            render=_described,
            position=lambda dataset: [dataset.spec.name],
        )

    def _create_dataset(self, fields: JsonObject) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        schema = decode_schema(fields.required_text("schema"))
        options = CreateOptions.from_json(fields)
        fields.finish()
        dataset, created = self._ingestion.create_dataset(name, options, schema)
        yield _described(dataset) | {"created": created}

    def _describe(self, fields: JsonObject) -> Results:
        dataset = self._dataset(fields)
        fields.finish()
        totals = self._manifests.totals(dataset, dataset.version)
        yield _described(dataset) | {
            "rows": totals.rows,
            "bytes": totals.bytes,
            "slices": totals.slices,
            "partitions": totals.partitions,
        }

    def _manifest(self, fields: JsonObject) -> Results:
        dataset = self._dataset(fields)
        as_of = AsOf.from_json(fields)
        selection = Selection.from_json(fields)
        start = _cursor(fields, default=SliceCursor().as_texts())
        fields.finish()
        version = self._manifests.resolve(dataset, as_of)
        yield from _pages(
            lambda cursor: self._manifests.slices(
                dataset, version, selection, cursor=SliceCursor.from_texts(cursor), limit=PAGE_ITEMS
            ),
            start=start,
            render=self._manifest_item,
            position=lambda item: SliceCursor.after(item).as_texts(),
            version=version,
        )

    def _manifest_item(self, item: VisibleSlice) -> dict[str, Any]:
        return {
            "id": str(item.holder_id),
            "uri": self._store.url(item.path) if item.path is not None else None,
            "form": item.form,
            "key": JsonObject.parse(item.key.encode(), what="key").all_texts(),
            "window": [format_instant(item.window_start), format_instant(item.window_end)],
            "rows": item.rows,
            "bytes": item.bytes,
            "min_ts": _format_nanoseconds(item.min_ts_ns),
            "max_ts": _format_nanoseconds(item.max_ts_ns),
            "added_version": item.added_version,
        }

    def _receipt(self, fields: JsonObject) -> Results:
        dataset = self._dataset(fields)
        idempotency_key = parse_idempotency_key(fields.required_text("idempotency_key"))
        fields.finish()
        known = self._manifests.append(dataset, idempotency_key)
        if known is None or known.receipt is None:
            raise error(
                "receipt_not_found",
                f"nothing has committed with the idempotency key {idempotency_key!r} yet; sending it again is safe",
                details={"dataset": dataset.spec.name, "idempotency_key": idempotency_key},
            )
        yield known.receipt.as_json()

    def _history(self, fields: JsonObject) -> Results:
        dataset = self._dataset(fields)
        start = _cursor(fields, default=[str(dataset.version + 1)])
        fields.finish()
        yield from _pages(
            lambda cursor: self._manifests.history(dataset, before=_integer(cursor[0]), limit=PAGE_ITEMS),
            start=start,
            render=_history_item,
            position=lambda entry: [str(entry.version)],
        )

    def _stats(self, fields: JsonObject) -> Results:
        fields.finish()
        yield {
            "running_puts": self._ingestion.gate.running,
            "expired_puts": self._ingestion.watchdog.expired_puts,
            "stalled_puts": self._ingestion.watchdog.stalled_puts,
            "buffered_bytes": self._shared.budget.used_bytes,
            "buffer_limit_bytes": self._shared.budget.limit_bytes,
            **self._manifests.counts(),
        }

    def _dataset(self, fields: JsonObject) -> Dataset:
        return self._manifests.dataset(parse_dataset_name(fields.required_text("dataset")))


def encode_result(fields: dict[str, Any]) -> pa.Buffer:
    """Encode one result as the JSON that travels."""
    return pa.py_buffer(canonical_json(fields).encode())


def _pages(
    fetch: Callable[[list[str]], list[Any]],
    *,
    start: list[str],
    render: Callable[[Any], dict[str, Any]],
    position: Callable[[Any], list[str]],
    **shared: object,
) -> Results:
    """Stream a table page by page; ``next`` of each page is the ``cursor`` to go on from, null on the last."""
    cursor: list[str] | None = start
    while cursor is not None:
        page = fetch(cursor)
        cursor = position(page[-1]) if len(page) == PAGE_ITEMS else None
        yield {"items": [render(item) for item in page], "next": cursor, **shared}


def _cursor(fields: JsonObject, *, default: list[str]) -> list[str]:
    cursor = fields.texts("cursor")
    if cursor is None:
        return default
    if len(cursor) != len(default):
        raise error("descriptor_invalid", "the cursor is not one that a page of this action gave as next")
    return cursor


def _integer(text: str) -> int:
    try:
        return parse_int64(text)
    except ValueError as exc:
        raise error("descriptor_invalid", f"{text[:40]!a} is not a number") from exc


def _reachable(look: Callable[[], object]) -> str:
    try:
        look()
    except TimestoreError as failure:
        return failure.kind
    return "ok"


def _described(dataset: Dataset) -> dict[str, Any]:
    spec = dataset.spec
    return {
        "dataset": spec.name,
        "incarnation": str(spec.incarnation),
        "timestamp_column": spec.timestamp_column,
        "window": spec.window.text,
        "order": str(spec.order),
        "evolution": str(spec.evolution),
        **spec.bounds.as_json(),
        "key_names": list(dataset.key_names) if dataset.key_names is not None else None,
        "version": dataset.version,
        "schema_version": dataset.schema_version,
        "schema": base64.b64encode(dataset.schema.serialize()).decode(),
        "columns": [
            {"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in dataset.schema
        ],
        "created_at": format_instant(dataset.created_at),
    }


def _history_item(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "version": entry.version,
        "kind": entry.kind,
        "committed_at": format_instant(entry.committed_at),
        "appends": entry.appends,
        "rows": entry.rows,
    }


def decode_schema(text: str) -> pa.Schema:
    """Read the base64 of an Arrow IPC schema message; raises ``descriptor_invalid``."""
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except (ValueError, OSError, pa.ArrowException) as exc:
        raise error(
            "descriptor_invalid", "the field 'schema' is not the base64 of an Arrow IPC schema message"
        ) from exc


def _format_nanoseconds(stamp_ns: int) -> str:
    """Spell nanoseconds since the epoch as RFC 3339 with as many digits as needed."""
    seconds, fraction = divmod(stamp_ns, 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return format_instant(to_datetime(seconds)).replace("Z", f"{digits}Z")
