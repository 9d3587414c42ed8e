"""The action ``audit``: the appends of a dataset with who made them."""

from __future__ import annotations

from uuid import UUID

import pyarrow as pa

from access.grants import Permission
from access.principal import Principal
from catalog.audit import AppendCursor, Audit, AuditedAppend
from flight_server.tables import PageRequest, Results, Table
from readers.visible import VisibleDatasets
from timestore.errors import error
from timestore.json_object import JsonObject, parse_int64
from timestore.names import parse_dataset_name
from timestore.windows import format_instant

AUDIT_HELP = (
    "List a dataset's appends with who made them, newest first. Body: {v, dataset, principal, cursor, limit, format}."
)
AUDIT_SCHEMA = pa.schema(
    [
        ("version", pa.int64()),
        ("committed_at", pa.string()),
        ("principal", pa.string()),
        ("idempotency_key", pa.string()),
        ("append_id", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
    ]
)


class AuditAction:
    """Parses the body of ``audit`` and answers it."""

    def __init__(self, *, audit: Audit, visible: VisibleDatasets) -> None:
        self._audit = audit
        self._visible = visible

    def run(self, fields: JsonObject, caller: Principal) -> Results:
        """List appends; raises ``descriptor_invalid``, ``permission_denied`` and ``dataset_not_found``."""
        name = parse_dataset_name(fields.required_text("dataset"))
        principal = fields.text("principal")
        request = PageRequest.from_json(fields)
        request.cursor_of(2)
        fields.finish()
        dataset = self._visible.dataset(name, caller, Permission.ADMIN)
        table: Table[AuditedAppend] = Table(
            schema=AUDIT_SCHEMA,
            fetch=lambda cursor, limit: self._audit.appends(dataset, _cursor(cursor), principal=principal, limit=limit),
            start=[str(dataset.version + 1), str(UUID(int=0))],
            render=_item,
            position=lambda append: [str(append.version), str(append.append_id)],
            shared={},
        )
        return table.pages(request)


def _cursor(texts: list[str]) -> AppendCursor:
    try:
        return AppendCursor(version=parse_int64(texts[0]), append_id=UUID(texts[1]))
    except ValueError as exc:
        raise error("descriptor_invalid", "the cursor is not one that a page of an audit gave as next") from exc


def _item(append: AuditedAppend) -> dict[str, object]:
    return {
        "version": append.version,
        "committed_at": format_instant(append.committed_at),
        "principal": append.principal,
        "idempotency_key": append.idempotency_key,
        "append_id": str(append.append_id),
        "rows": append.rows,
        "bytes": append.bytes,
    }
