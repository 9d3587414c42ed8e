"""The parameters of a query, put in where its text has them.

It runs in the process of the query (``readers.sql_process``) and imports nothing of Timestore but ``readers.sql_tree``.
DuckDB's own EXECUTE would gather the whole result before it gives the first row. So each value becomes a variable of
its exact type, and its place in the text a call that reads it; a text becomes a literal, which DuckDB casts to what it
is compared with.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence

import duckdb
import pyarrow as pa

from readers.sql_tree import Parameter

MAX_PARAMETER_ROWS = 1_000
_TEXTS = {pa.string(), pa.large_string(), pa.string_view()}


class QueryRefusedError(Exception):
    """What is wrong with a query, by the kind of its error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Bound:
    """A query's text with its parameters, and the rows that are bound to them."""

    def __init__(self, query: str, places: Sequence[Parameter], types: Mapping[str, str]) -> None:
        self._query = query.encode()
        self._places = places
        self._types = types
        self._names = _ordered({place.identifier for place in places})
        self._rows: list[dict[str, str]] | None = None  # by parameter, as SQL

    def schema(self, connection: duckdb.DuckDBPyConnection) -> pa.Schema:
        """Return a field for each parameter, of the type that it most likely has; text if nothing tells."""
        if not self._names:
            return pa.schema([])
        nulls = ", ".join(f'NULL::{self._type(name)} AS "p{name}"' for name in self._names)
        found = connection.sql(f"SELECT {nulls}").limit(0).to_arrow_table().schema
        return pa.schema([pa.field(name, field.type) for name, field in zip(self._names, found, strict=True)])

    def _type(self, name: str) -> str:
        return self._types.get(name, "VARCHAR")

    def bind(self, connection: duckdb.DuckDBPyConnection, parameters: str) -> None:
        """Take rows of parameters, base64 of an Arrow IPC stream; raises ``QueryRefusedError``."""
        try:
            table = pa.ipc.open_stream(base64.b64decode(parameters)).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise QueryRefusedError("query_invalid", "the parameters are not a valid Arrow IPC stream") from exc
        if table.num_columns != len(self._names):
            raise self._miscounted(table.num_columns)
        if table.num_rows > MAX_PARAMETER_ROWS:
            raise QueryRefusedError(
                "query_too_expensive",
                f"{table.num_rows} rows of parameters are bound, at most {MAX_PARAMETER_ROWS} are allowed",
            )
        columns = list(table.column_names)
        by_name = sorted(columns) == sorted(self._names)
        positions = [columns.index(name) if by_name else number for number, name in enumerate(self._names)]
        values = [
            _spelled(connection, table.column(position), str(number), self._types.get(name))
            for number, (name, position) in enumerate(zip(self._names, positions, strict=True))
        ]
        self._rows = [
            {name: column[row] for name, column in zip(self._names, values, strict=True)}
            for row in range(table.num_rows)
        ]

    def described(self) -> str:
        """Return the query with the first row's parameters, or with nulls: what tells its result's schema."""
        nulls = {name: f"NULL::{self._types[name]}" if name in self._types else "NULL" for name in self._names}
        return self._text(self._rows[0] if self._rows else nulls)

    def column_names(self, connection: duckdb.DuckDBPyConnection) -> list[str] | None:
        """Return the names of the result's columns whatever is bound, ``$1`` for a parameter; None for DuckDB's own."""
        unset = {name: f"getvariable('timestore_{name}')" for name in self._names}
        try:
            names = connection.sql(self._text(unset)).columns if unset else None
        except duckdb.Error:  # it takes values to tell the types
            return None
        for name, call in unset.items():
            names = [column.replace(call, f"${name}") for column in names or ()]
        return names

    def queries(self) -> Iterator[str]:
        """Yield the query once for each row of parameters; raises ``QueryRefusedError`` if there must be some."""
        if self._rows is None:
            if self._names:
                raise self._miscounted(0)
            yield self._text({})
            return
        yield from map(self._text, self._rows) if self._rows else [f"SELECT * FROM ({self.described()}) LIMIT 0"]

    def _text(self, values: Mapping[str, str]) -> str:
        pieces, end = [], 0
        for place in self._places:
            if self._query[place.start : place.start + 1] not in (b"?", b"$"):
                raise QueryRefusedError("query_invalid", "the place of a parameter in the query cannot be told")
            pieces += [self._query[end : place.start], f"({values[place.identifier]})".encode()]
            end = place.start + place.length
        return b"".join([*pieces, self._query[end:]]).decode()

    def _miscounted(self, bound: int) -> QueryRefusedError:
        return QueryRefusedError(
            "query_invalid", f"the query has {len(self._names)} parameters, and {bound} are bound; bind one for each"
        )


def _ordered(identifiers: set[str]) -> list[str]:
    """Return parameters in the order in which they are bound: by number, or by name."""
    return sorted(identifiers, key=lambda name: (int(name) if name.isdecimal() else 0, name))


def _spelled(connection: duckdb.DuckDBPyConnection, column: pa.ChunkedArray, name: str, type_: str | None) -> list[str]:
    """Return a column of parameters as SQL, value by value; ``type_`` is what they are most likely compared with."""
    if column.type in _TEXTS:
        texts = column.to_pylist()
        if not any("\0" in text for text in texts if text is not None):  # where a query would end
            null = "NULL::VARCHAR" if type_ is None else "NULL"  # which compares with anything
            return [null if text is None else "'" + text.replace("'", "''") + "'" for text in texts]
    column = _without_zone(column, type_)
    spelled = []
    for row in range(len(column)):
        variable = f"timestore_{name}_{row}"
        connection.register("timestore_parameter", pa.table({"value": column.slice(row, 1)}))
        connection.execute(f"SET VARIABLE {variable} = (SELECT value FROM timestore_parameter)")
        connection.unregister("timestore_parameter")
        spelled.append(f"getvariable('{variable}')")
    return spelled


def _without_zone(column: pa.ChunkedArray, type_: str | None) -> pa.ChunkedArray:
    """Return instants as files have them: in nanoseconds they have no zone, and compare with none that has."""
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        return column
    if column.type.unit != "ns" and type_ != "TIMESTAMP_NS":
        return column
    try:
        return column.cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:  # no nanoseconds hold it
        return column
