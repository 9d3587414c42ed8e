"""The action ``sql``: a query in, rows out as Arrow."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from access.principal import Principal
from readers.sql import MAX_TIMEOUT_S, SqlQueries
from readers.sql_tables import DEFAULT_TIMEOUT_S, SqlQuery
from timestore.errors import error
from timestore.json_object import JsonObject
from timestore.reading import AsOf

SQL_HELP = (
    "Query datasets by SQL; each result is an Arrow IPC stream. "
    "Body: {v, query, version | as_of, versions, max_rows, timeout_s}."
)


class SqlAction:
    """Parses the body of ``sql`` and runs the query."""

    def __init__(self, queries: SqlQueries) -> None:
        self._queries = queries

    def run(self, fields: JsonObject, principal: Principal) -> Iterator[pa.Buffer]:
        """Run the query; raises ``descriptor_invalid`` and what the query raises."""
        query = SqlQuery(
            text=fields.required_text("query"),
            as_of=AsOf.from_json(fields),
            versions=_versions(fields.child("versions")),
            max_rows=fields.integer("max_rows", minimum=1),
            timeout_s=_timeout_s(fields),
        )
        fields.finish()
        return map(pa.py_buffer, self._queries.run(query, principal))


def _versions(fields: JsonObject | None) -> dict[str, int]:
    return fields.all_integers() if fields is not None else {}


def _timeout_s(fields: JsonObject) -> float:
    timeout_s = fields.number("timeout_s")
    if timeout_s is None:
        return DEFAULT_TIMEOUT_S
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise error("descriptor_invalid", f"timeout_s is {timeout_s:g}; it may be up to {MAX_TIMEOUT_S:g}, and not 0")
    return timeout_s
