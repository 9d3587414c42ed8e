"""Tables for cases that make theirs by SQL, with what Timestore has instead: datasets, and rows that are ingested.

Each table gets one column more, at its end: the timestamp that a dataset must have. ``CREATE TABLE`` makes a dataset.
The values of an ``INSERT`` are selected from the server, with the parameters that are bound to it, and ingested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import adbc_driver_manager
import adbc_driver_manager.dbapi as dbapi
import pyarrow as pa

import timestore
from timestore.errors import NotFoundError

EVENT = pa.field("timestore_event", pa.timestamp("us", "UTC"), nullable=False)
_DDL = re.compile(
    r"\s*(CREATE|DROP|INSERT)\s+(?:TABLE\s+|INTO\s+)(?:IF EXISTS\s+)?\"?(\w+)\"?\s*(.*)", re.DOTALL | re.I
)
_INSERT = re.compile(r"(?:\((?P<columns>[^)]*)\))?\s*VALUES\s*\((?P<values>.*)\)", re.DOTALL | re.I)
_UNITS = ("s", "ms", "ms", "ms", "us", "us", "us", "ns", "ns", "ns")  # by the digits of a second
_TYPES = {
    "BIGINT": pa.int64(),
    "BLOB": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "DOUBLE PRECISION": pa.float64(),
    "INT": pa.int32(),
    "INTEGER": pa.int32(),
    "REAL": pa.float32(),
    "SMALLINT": pa.int16(),
    "TEXT": pa.string(),
    "VARBINARY": pa.binary(),
    "VARCHAR": pa.string(),
}
_CASTS = {  # what DuckDB calls them, where it is not what is said in the table above
    pa.timestamp("ns"): "TIMESTAMP_NS",
    pa.timestamp("ns", "UTC"): "TIMESTAMP_NS",
    pa.float32(): "REAL",
}


class Tables:
    """Does what the suite's statements ask for that make, fill and drop tables."""

    def __init__(self, client: timestore.Client) -> None:
        self._client = client

    def run(self, cursor: dbapi.Cursor, text: str, bound: pa.RecordBatch | None) -> bool:
        """Do what a statement says; False if it is none that makes, fills or drops a table."""
        match = _DDL.fullmatch(text.strip().rstrip(";"))
        if match is None:
            return False
        word, name, rest = match[1].upper(), match[2], match[3]
        if word == "DROP":
            self._drop(name)
        elif word == "CREATE":
            self._create(name, rest)
        else:
            self._insert(cursor, name, rest, bound)
        return True

    def _drop(self, name: str) -> None:
        with suppress(NotFoundError):  # DROP TABLE IF EXISTS
            self._client.drop_dataset(name, confirm=name)

    def _create(self, name: str, columns: str) -> None:
        fields = [_field(column) for column in re.split(r",(?![^(]*\))", columns.strip()[1:-1])]
        self.create(name, pa.schema([*fields, EVENT]))

    def create(self, name: str, schema: pa.Schema) -> None:
        """Make a dataset."""
        self._client.create_dataset(name, schema, timestamp_column=EVENT.name)

    def _insert(self, cursor: dbapi.Cursor, name: str, rest: str, bound: pa.RecordBatch | None) -> None:
        match = _INSERT.fullmatch(rest.strip())
        assert match is not None, rest
        schema = cursor.connection.adbc_get_table_schema(name)
        if bound is not None:
            selected = _select(cursor, f"SELECT {match['values']}", bound)
        else:
            selected = _select(cursor, f"SELECT {_casts(schema)} FROM (VALUES ({_plain(match['values'])}))", None)
        columns = [selected.column(at).cast(field.type) for at, field in enumerate(schema)]
        cursor.adbc_ingest(name, with_event(pa.table(columns, schema=schema)), mode="append")


def with_event(table: pa.Table) -> pa.Table:
    """Return rows with an instant each, in order."""
    return table.append_column(EVENT, pa.array(range(table.num_rows), EVENT.type))


def _field(column: str) -> pa.Field:
    name, _, type_ = column.strip().partition(" ")
    return pa.field(name.strip('"'), _type(type_.strip().upper()))


def _type(spelled: str) -> pa.DataType:
    match = re.fullmatch(r"([A-Z ]+?)(?:\((\d+)(?:,\s*(\d+))?\))?( WITH TIME ZONE)?", spelled)
    assert match is not None, spelled
    name, first, second, zoned = match.groups()
    if name in ("NUMERIC", "DECIMAL"):
        return pa.decimal128(int(first), int(second))
    unit = _UNITS[int(first or 6)] if name in ("TIME", "TIMESTAMP") else ""
    if name == "TIMESTAMP":
        return pa.timestamp(unit, "UTC" if zoned else None)
    if name == "TIME":
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    return _TYPES[name]


def _plain(values: str) -> str:
    """Return literals without the types that lose digits, and bytes as DuckDB spells them."""
    values = re.sub(r"TIMESTAMP(?: WITH TIME ZONE)? ('[^']*')", r"\1", values)
    return re.sub(r"\bX('[0-9a-f]*')", r"from_hex(\1)", values, flags=re.IGNORECASE)


def _casts(schema: pa.Schema) -> str:
    return ", ".join(f"CAST(col{at} AS {_cast(type_)})" for at, type_ in enumerate(schema.types))


def _cast(type_: pa.DataType) -> str:
    if type_ in _CASTS:
        return _CASTS[type_]
    if pa.types.is_timestamp(type_):
        return "TIMESTAMPTZ" if type_.tz else "TIMESTAMP"
    if pa.types.is_decimal(type_):
        return f"DECIMAL({type_.precision}, {type_.scale})"
    return next((name for name, known in _TYPES.items() if known == type_), "TIME")


def _select(cursor: dbapi.Cursor, query: str, bound: pa.RecordBatch | None) -> pa.Table:
    with dbapi.Connection.cursor(cursor.connection) as plain:
        statement = plain.adbc_statement
        statement.set_sql_query(query)
        if bound is not None:
            statement.prepare()  # before: the driver forgets what is bound to a statement that is not prepared
            statement.bind(bound)
        stream, _ = statement.execute_query()
        return pa.RecordBatchReader.from_stream(stream).read_all()


class Statement:
    """The driver's statement, but for updates that make, fill or drop a table."""

    def __init__(self, cursor: Cursor, inner: adbc_driver_manager.AdbcStatement, tables: Tables) -> None:
        self._cursor = cursor
        self._inner = inner
        self._tables = tables
        self._text = ""
        self._bound: pa.RecordBatch | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def set_sql_query(self, query: str) -> None:
        """Take a statement."""
        self._text, self._bound = query, None
        self._inner.set_sql_query(query)

    def prepare(self) -> None:
        """Prepare a query."""
        if not self._is_ddl():
            self._inner.prepare()

    def bind(self, data: pa.RecordBatch) -> None:
        """Bind rows of parameters."""
        if self._is_ddl():
            self._bound = data
        else:
            self._inner.bind(data)

    def execute_update(self) -> Any:
        """Do it."""
        if self._tables.run(self._cursor, self._text, self._bound):
            return -1
        return self._inner.execute_update()

    def _is_ddl(self) -> bool:
        return _DDL.fullmatch(self._text.strip().rstrip(";")) is not None


class Cursor(dbapi.Cursor):
    """ADBC's cursor, whose ingests have timestamps."""

    def __init__(self, connection: Connection, options: Mapping[str, Any] | None) -> None:
        super().__init__(connection, options)
        self._tables = connection.tables
        self._statement = Statement(self, self._stmt, connection.tables)

    @property
    def adbc_statement(self) -> Any:
        """The statement."""
        return self._statement

    def adbc_ingest(self, table_name: str, data: Any, *args: Any, **kwargs: Any) -> int:
        """Ingest rows."""
        table = data.read_all() if isinstance(data, pa.RecordBatchReader) else pa.table(data)
        if EVENT.name not in table.column_names:
            table = with_event(table)
        if kwargs.get("mode") == "create" and sum(pa.types.is_timestamp(type_) for type_ in table.schema.types) > 1:
            self._tables.create(table_name, table.schema)  # an ingest cannot say which of them is the dataset's
            kwargs["mode"] = "append"
        return super().adbc_ingest(table_name, table, *args, **kwargs)

    def execute(self, operation: Any, parameters: Any = None) -> Any:
        """Run a statement."""
        if parameters is None and self._tables.run(self, operation, None):
            return self
        return super().execute(operation, parameters)


class Connection(dbapi.Connection):
    """ADBC's connection, whose tables do not show the column that the suite does not know."""

    tables: Tables

    def cursor(self, *, adbc_stmt_kwargs: Mapping[str, Any] | None = None) -> Cursor:
        """Make a cursor."""
        return Cursor(self, adbc_stmt_kwargs)

    def adbc_get_table_schema(self, *args: Any, **kwargs: Any) -> pa.Schema:
        """Return a table's columns."""
        schema = super().adbc_get_table_schema(*args, **kwargs)
        return pa.schema([field for field in schema if field.name != EVENT.name], metadata=schema.metadata)

    def adbc_get_objects(self, **kwargs: Any) -> pa.RecordBatchReader:
        """Return what there is."""
        found = super().adbc_get_objects(**kwargs)
        rows = found.read_all().to_pylist()
        for catalog in rows:
            for schema in catalog["catalog_db_schemas"] or []:
                for table in schema["db_schema_tables"] or []:
                    columns = table["table_columns"] or []
                    table["table_columns"] = [each for each in columns if each["column_name"] != EVENT.name]
        return pa.Table.from_pylist(rows, schema=found.schema).to_reader()


def connect(driver: str, uri: str, client: timestore.Client) -> Connection:
    """Connect with a driver."""
    db = adbc_driver_manager.AdbcDatabase(driver=driver, uri=uri)
    connection = Connection(db, adbc_driver_manager.AdbcConnection(db), autocommit=True)
    connection.tables = Tables(client)
    return connection
