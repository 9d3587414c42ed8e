"""The actions of ``do_action``: JSON in, JSON or Arrow out. One table names them all."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from access.grants import Permission
from access.principal import Principal
from catalog.audit import Audit
from catalog.manifests import Manifests, SliceCursor
from catalog.records import HistoryEntry, VisibleSlice
from flight_server.audit_action import AUDIT_HELP, AuditAction
from flight_server.sql_action import SQL_HELP, SqlAction
from flight_server.storage_actions import ADD_HELP, LIST_HELP, TEST_HELP, StorageActions
from flight_server.tables import PageRequest, Results, Table, encode_json
from readers.items import (
    DATASET_SCHEMA,
    HISTORY_SCHEMA,
    MANIFEST_SCHEMA,
    dataset_item,
    history_item,
    manifest_item,
)
from readers.receipts import find_receipt
from readers.sql import SqlQueries
from readers.visible import KNOW, VisibleDatasets
from storage.marker import find_marker
from storage.targets import Targets
from timestore import __version__
from timestore.datasets import CreateOptions, Dataset
from timestore.descriptor import PROTOCOL_VERSION
from timestore.durations import Duration
from timestore.errors import TimestoreError, error
from timestore.json_object import JsonObject, parse_int64
from timestore.names import parse_dataset_name, parse_idempotency_key
from timestore.reading import AsOf, Selection, parse_incarnation
from timestore.storage_target import DEFAULT_STORAGE
from timestore.windows import format_instant
from writers.housekeeping import Housekeeping
from writers.ingestion import Ingestion
from writers.lifecycle import DatasetLifecycle
from writers.storage_setup import StorageSetup
from writers.workshop import Workshop

_MANIFEST_CURSOR_PARTS = 2 + len(SliceCursor().as_texts())  # incarnation and version come first


@dataclass(frozen=True, slots=True)
class Need:
    """Which grant an action needs: one of some permissions, on the datasets it names or on all there are."""

    permissions: tuple[Permission, ...] = ()  # none: it is enough to be known
    everywhere: bool = False


READ, CREATE, ADMIN = (Need((each,)) for each in (Permission.READ, Permission.CREATE, Permission.ADMIN))
APPEND, KNOWN = Need((Permission.APPEND,)), Need(KNOW)
ADMIN_OF_ALL, NOTHING = Need((Permission.ADMIN,), everywhere=True), Need()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action: its name, what it does, and the function that does it."""

    name: str
    help: str
    needs: Need  # what floor 3 asks for; for documents and tests
    run: Callable[[JsonObject, Principal], Results]


class Actions:
    """What ``do_action`` and ``list_actions`` know. Thread safe."""

    def __init__(
        self,
        *,
        manifests: Manifests,
        audit: Audit,
        ingestion: Ingestion,
        lifecycle: DatasetLifecycle,
        housekeeping: Housekeeping,
        shared: Workshop,
        targets: Targets,
        setup: StorageSetup,
        sql: SqlQueries,
    ) -> None:
        self._manifests = manifests
        self._visible = VisibleDatasets(manifests=manifests)
        self._ingestion = ingestion
        self._lifecycle = lifecycle
        self._housekeeping = housekeeping
        self._shared = shared
        self._targets = targets
        self._storage = StorageActions(setup)
        self._sql = SqlAction(sql)
        self._audit = AuditAction(audit=audit, visible=self._visible)
        self.table = {action.name: action for action in self._all()}

    def run(self, name: str, body: bytes, principal: Principal) -> Results:
        """Run an action, of which each result is one JSON object or one Arrow stream.

        Raises ``action_unknown`` and what the action raises.
        """
        action = self.table.get(name)
        if action is None:
            raise _unknown(name, sorted(self.table))
        fields = JsonObject.parse(body or b'{"v":1}', what=f"body of {name}")
        fields.version(PROTOCOL_VERSION)
        return action.run(fields, principal)

    def _all(self) -> list[Action]:
        return [
            Action(name="health", help="Say whether the server can take puts.", needs=NOTHING, run=self._health),
            Action(
                name="list_datasets",
                help="List the datasets, by name. Body: {v, cursor, limit, format}.",
                needs=NOTHING,
                run=self._list_datasets,
            ),
            Action(
                name="create_dataset",
                help="Create a dataset without rows. Body: {v, dataset, schema (base64 of an Arrow IPC schema), "
                "timestamp_column, window, order, evolution, min, max, future_tolerance_s, max_rows_per_put, "
                "max_bytes, retention, storage}.",
                needs=CREATE,
                run=self._create_dataset,
            ),
            Action(
                name="describe_dataset", help="Describe a dataset. Body: {v, dataset}.", needs=KNOWN, run=self._describe
            ),
            Action(
                name="set_retention",
                help="Change how long windows are kept after their end. Body: {v, dataset, retention (30d, 12h, or "
                "null for ever)}.",
                needs=ADMIN,
                run=self._set_retention,
            ),
            Action(
                name="expire",
                help="Remove windows past retention now. Body: {v, dataset}.",
                needs=ADMIN,
                run=self._expire,
            ),
            Action(
                name="drop_dataset",
                help="Drop a dataset, for good. Body: {v, dataset, confirm (the name once more)}.",
                needs=ADMIN,
                run=self._drop,
            ),
            Action(
                name="manifest",
                help="List the files visible at a version. Body: {v, dataset, version | as_of, key, from, to, cursor, "
                "limit, format}.",
                needs=READ,
                run=self._manifest,
            ),
            Action(
                name="receipt",
                help="Return the receipt of an append. Body: {v, dataset, idempotency_key}.",
                needs=KNOWN,
                run=self._receipt,
            ),
            Action(
                name="abandon",
                help="Fence an idempotency key, or return its receipt. Body: {v, dataset, idempotency_key}.",
                needs=APPEND,
                run=self._abandon,
            ),
            Action(
                name="history",
                help="List a dataset's commits, newest first. Body: {v, dataset, cursor, limit, format}.",
                needs=READ,
                run=self._history,
            ),
            Action(name="audit", help=AUDIT_HELP, needs=ADMIN, run=self._audit.run),
            Action(name="sql", help=SQL_HELP, needs=READ, run=self._sql.run),
            Action(name="add_storage", help=ADD_HELP, needs=ADMIN_OF_ALL, run=self._storage.add),
            Action(name="list_storage", help=LIST_HELP, needs=ADMIN_OF_ALL, run=self._storage.list),
            Action(name="test_storage", help=TEST_HELP, needs=ADMIN_OF_ALL, run=self._storage.test),
            Action(
                name="sweep", help="Delete what dead servers left now. Body: {v}.", needs=ADMIN_OF_ALL, run=self._sweep
            ),
            Action(name="stats", help="Return counts and memory of this server.", needs=ADMIN_OF_ALL, run=self._stats),
        ]

    def _health(self, fields: JsonObject, _: Principal) -> Results:
        fields.finish()
        yield encode_json(
            {
                "status": "ok" if self._ingestion.accepts_puts else "refusing puts",
                "version": __version__,
                "protocol": PROTOCOL_VERSION,
                "catalog": _reachable(self._manifests.check),
                "storage": _reachable(lambda: find_marker(self._targets.of(DEFAULT_STORAGE))),
            }
        )

    def _list_datasets(self, fields: JsonObject, principal: Principal) -> Results:
        request = PageRequest.from_json(fields)
        request.cursor_of(1)
        fields.finish()
        table: Table[Dataset] = Table(
            schema=DATASET_SCHEMA,
            fetch=lambda cursor, limit: self._visible.datasets(principal, after=cursor[0], limit=limit),
            start=[""],
            render=dataset_item,
            position=lambda dataset: [dataset.spec.name],
            shared={},
        )
        return table.pages(request)

    def _create_dataset(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        schema = decode_schema(fields.required_text("schema"))
        options = CreateOptions.from_json(fields)
        fields.finish()
        dataset, created = self._ingestion.create_dataset(name, options, schema, principal)
        yield encode_json(dataset_item(dataset) | {"created": created})

    def _describe(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        fields.finish()
        yield encode_json(dataset_item(self._visible.dataset(name, principal, *KNOW)))

    def _set_retention(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        if not fields.has("retention"):
            raise error("descriptor_invalid", "retention is missing; give a duration such as 30d, or null for ever")
        text = fields.text("retention")
        fields.finish()
        retention = Duration.parse(text) if text is not None else None
        yield encode_json(dataset_item(self._lifecycle.set_retention(name, retention, principal)))

    def _expire(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        fields.finish()
        dataset, expiry = self._lifecycle.expire(name, principal)
        yield encode_json(
            {
                "dataset": dataset.spec.name,
                "incarnation": str(dataset.spec.incarnation),
                "version": expiry.version,
                "before": format_instant(expiry.before) if expiry.before else None,
                "slices": expiry.slices,
                "rows": expiry.rows,
                "bytes": expiry.bytes,
            }
        )

    def _drop(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        confirm = fields.required_text("confirm")
        fields.finish()
        dataset, dropped = self._lifecycle.drop(name, principal, confirm=confirm)
        yield encode_json(
            {
                "dataset": dataset.spec.name,
                "incarnation": str(dataset.spec.incarnation),
                "version": dropped.version,
                "dropped_at": format_instant(dropped.dropped_at),
            }
        )

    def _manifest(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        as_of = AsOf.from_json(fields)
        selection = Selection.from_filters(fields)
        request = PageRequest.from_json(fields)
        cursor = request.cursor_of(_MANIFEST_CURSOR_PARTS)
        fields.finish()
        pinned_at = (parse_incarnation(cursor[0]), _integer(cursor[1])) if cursor is not None else None
        dataset, version = self._visible.pinned(name, as_of, pinned_at, principal)
        pinned = [str(dataset.spec.incarnation), str(version)]
        table: Table[VisibleSlice] = Table(
            schema=MANIFEST_SCHEMA,
            fetch=lambda cursor, limit: self._manifests.slices(
                dataset, version, selection, cursor=SliceCursor.from_texts(cursor[2:]), limit=limit
            ),
            start=[*pinned, *SliceCursor().as_texts()],
            render=lambda item: manifest_item(item, self._targets),
            position=lambda item: [*pinned, *SliceCursor.after(item).as_texts()],
            shared={"version": version},
        )
        return table.pages(request)

    def _receipt(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        idempotency_key = parse_idempotency_key(fields.required_text("idempotency_key"))
        fields.finish()
        dataset = self._visible.dataset(name, principal, *KNOW)
        yield encode_json(find_receipt(self._manifests, dataset, idempotency_key).as_json())

    def _abandon(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        idempotency_key = parse_idempotency_key(fields.required_text("idempotency_key"))
        fields.finish()
        receipt = self._lifecycle.abandon(name, idempotency_key, principal)
        yield encode_json(
            {
                "dataset": name,
                "idempotency_key": idempotency_key,
                "abandoned": receipt is None,
                "receipt": receipt.as_json() if receipt else None,
            }
        )

    def _history(self, fields: JsonObject, principal: Principal) -> Results:
        name = parse_dataset_name(fields.required_text("dataset"))
        request = PageRequest.from_json(fields)
        request.cursor_of(1)
        fields.finish()
        dataset = self._visible.dataset(name, principal, Permission.READ)
        table: Table[HistoryEntry] = Table(
            schema=HISTORY_SCHEMA,
            fetch=lambda cursor, limit: self._manifests.history(dataset, before=_integer(cursor[0]), limit=limit),
            start=[str(dataset.version + 1)],
            render=history_item,
            position=lambda entry: [str(entry.version)],
            shared={},
        )
        return table.pages(request)

    def _sweep(self, fields: JsonObject, principal: Principal) -> Results:
        fields.finish()
        swept = self._housekeeping.sweep(principal)
        left = {storage: str(failure) for storage, failure in swept.left.items()}
        yield encode_json({"condemned": swept.condemned, "deleted": swept.deleted, "left": left})

    def _stats(self, fields: JsonObject, principal: Principal) -> Results:
        principal.require_everywhere(Permission.ADMIN)
        fields.finish()
        yield encode_json(
            {
                "time": format_instant(datetime.now(UTC)),
                "running_puts": self._ingestion.gate.running,
                "expired_puts": self._ingestion.watchdog.expired_puts,
                "stalled_puts": self._ingestion.watchdog.stalled_puts,
                "buffered_bytes": self._shared.budget.used_bytes,
                "buffer_limit_bytes": self._shared.budget.limit_bytes,
                "staged_bytes": self._shared.room.used_bytes,
                "staging_limit_bytes": self._shared.room.limit_bytes,
                "uploads": self._shared.uploads.pending,
                **self._manifests.counts(),
            }
        )


def _unknown(name: str, known: list[str]) -> TimestoreError:
    hint = "; a dataset cannot be renamed: create another one and copy its rows" if name.startswith("rename") else ""
    return error(
        "action_unknown",
        f"there is no action {name[:60]!a}{hint}; there are {known}",
        details={"action": name[:60]},
    )


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


def decode_schema(text: str) -> pa.Schema:
    """Read the base64 of an Arrow IPC schema message; raises ``descriptor_invalid``."""
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except (ValueError, OSError, pa.ArrowException) as exc:
        raise error(
            "descriptor_invalid", "the field 'schema' is not the base64 of an Arrow IPC schema message"
        ) from exc
