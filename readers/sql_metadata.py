"""What databases tell of themselves, in the tables of Flight SQL: catalogs, schemas, tables, types, keys.

A dataset is a table. Timestore has neither catalogs nor schemas, but tools look for tables below both: there is one of
each. Schemas of the answers: arrow/format/FlightSql.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from access.principal import Principal
from catalog.manifests import Manifests
from readers.sql_info import SQL_INFO_SCHEMA, sql_info
from readers.sql_types import sql_schema
from readers.visible import VisibleDatasets
from timestore.datasets import Dataset
from timestore.flight_sql.messages import CATALOG, SCHEMA, Message

TABLE_TYPE = "TABLE"
PAGE_DATASETS = 500
BATCH_BYTES = 4 << 20  # of schemas: well below the 16 MiB that clients in Go take in one message

Row = Sequence[Any]


def _schema(text: str) -> pa.Schema:
    """Read columns as ``name type``, a ``!`` for those that are never null."""
    types = {
        "text": pa.string(),
        "bytes": pa.binary(),
        "bool": pa.bool_(),
        "int32": pa.int32(),
        "uint8": pa.uint8(),
        "texts": pa.list_(pa.field("item", pa.string(), nullable=False)),
    }
    columns = [column.split() for column in text.split(",")]
    return pa.schema([pa.field(name, types[type_.rstrip("!")], nullable="!" not in type_) for name, type_ in columns])


_CATALOGS = _schema("catalog_name text!")
_SCHEMAS = _schema("catalog_name text, db_schema_name text!")
_TABLE_TYPES = _schema("table_type text!")
_TABLES = _schema("catalog_name text, db_schema_name text, table_name text!, table_type text!")
_TABLES_WITH_SCHEMA = _TABLES.append(pa.field("table_schema", pa.binary(), nullable=False))
_PRIMARY_KEYS = _schema(
    "catalog_name text, db_schema_name text, table_name text!, column_name text!, key_name text, key_sequence int32!"
)
_FOREIGN_KEYS = _schema(
    "pk_catalog_name text, pk_db_schema_name text, pk_table_name text!, pk_column_name text!, fk_catalog_name text, "
    "fk_db_schema_name text, fk_table_name text!, fk_column_name text!, key_sequence int32!, fk_key_name text, "
    "pk_key_name text, update_rule uint8!, delete_rule uint8!"
)
_XDBC_TYPES = _schema(
    "type_name text!, data_type int32!, column_size int32, literal_prefix text, literal_suffix text, create_params "
    "texts, nullable int32!, case_sensitive bool!, searchable int32!, unsigned_attribute bool, fixed_prec_scale bool!, "
    "auto_increment bool, local_type_name text, minimum_scale int32, maximum_scale int32, sql_data_type int32!, "
    "datetime_subcode int32, num_prec_radix int32, interval_precision int32"
)


@dataclass(frozen=True, slots=True)
class _XdbcType:
    """A type of SQL, by the number that java.sql.Types has for it."""

    name: str
    number: int
    size: int | None = None  # in digits or characters
    quote: str | None = None  # around literals
    is_signed: bool | None = None  # only numbers say
    scale: int | None = None  # the highest

    def row(self) -> Row:
        least = None if self.scale is None else 0
        unsigned = None if self.is_signed is None else not self.is_signed
        return (
            *(self.name, self.number, self.size, self.quote, self.quote, None),
            *(1, self.name == "VARCHAR", 3, unsigned, self.scale is not None, False),  # nullable, and searchable by all
            *(self.name, least, self.scale, self.number, None, 10 if self.is_signed else None, None),
        )


# In the order of their numbers, as clients expect.
_TYPES = (
    _XdbcType("TINYINT", -6, 3, None, True, 0),
    _XdbcType("BIGINT", -5, 19, None, True, 0),
    _XdbcType("BLOB", -3, None, "'"),
    _XdbcType("DECIMAL", 3, 38, None, True, 38),
    _XdbcType("INTEGER", 4, 10, None, True, 0),
    _XdbcType("SMALLINT", 5, 5, None, True, 0),
    _XdbcType("FLOAT", 6, 7, None, True),
    _XdbcType("DOUBLE", 8, 15, None, True),
    _XdbcType("VARCHAR", 12, None, "'"),
    _XdbcType("BOOLEAN", 16, 1),
    _XdbcType("DATE", 91, 10, "'"),
    _XdbcType("TIME", 92, 15, "'"),
    _XdbcType("TIMESTAMP", 93, 26, "'"),
    _XdbcType("TIMESTAMP WITH TIME ZONE", 2014, 32, "'"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A table of metadata: its schema, and its rows once they are asked for."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]


class SqlMetadata:
    """Answers the metadata commands of Flight SQL, with the datasets that a caller may know of. Thread safe."""

    def __init__(self, *, manifests: Manifests) -> None:
        self._visible = VisibleDatasets(manifests=manifests)

    def listing(self, command: Message, principal: Principal) -> Listing | None:
        """Return what a command asks for; None if it is none of metadata."""
        match command.name:
            case "CommandGetSqlInfo":
                return Listing(schema=SQL_INFO_SCHEMA, batches=[sql_info(command.fields.info)])
            case "CommandGetXdbcTypeInfo":
                return _listing(_XDBC_TYPES, _xdbc_types(command))
            case "CommandGetCatalogs":
                return _listing(_CATALOGS, [(CATALOG,)])
            case "CommandGetDbSchemas":
                return _listing(_SCHEMAS, [(CATALOG, SCHEMA)] if _is_home(command) else [])
            case "CommandGetTableTypes":
                return _listing(_TABLE_TYPES, [(TABLE_TYPE,)])
            case "CommandGetTables":
                return self._tables(command, principal)
            case "CommandGetPrimaryKeys":
                return _listing(_PRIMARY_KEYS, [])
            case "CommandGetExportedKeys" | "CommandGetImportedKeys" | "CommandGetCrossReference":
                return _listing(_FOREIGN_KEYS, [])
        return None

    def _tables(self, command: Message, principal: Principal) -> Listing:
        schema = _TABLES_WITH_SCHEMA if command.fields.include_schema else _TABLES
        wanted = list(command.fields.table_types)
        if not _is_home(command) or (wanted and TABLE_TYPE not in wanted):
            return _listing(schema, [])
        datasets = self._datasets(_pattern(command, "table_name_filter_pattern"), principal)
        return Listing(schema=schema, batches=_batches(schema, (_table_row(dataset, schema) for dataset in datasets)))

    def _datasets(self, pattern: re.Pattern[str] | None, principal: Principal) -> Iterator[Dataset]:
        """Yield the datasets whose names match, by name: the one place where metadata lists them."""
        after = ""
        while page := self._visible.datasets(principal, after=after, limit=PAGE_DATASETS):
            yield from (each for each in page if pattern is None or pattern.fullmatch(each.spec.name))
            after = page[-1].spec.name


def table_schema(dataset: Dataset) -> pa.Schema:
    """Return the columns that a dataset has as a table: its own, then the parts of the key as text."""
    schema = sql_schema(dataset.schema)
    for name in dataset.key_names or ():
        schema = schema.append(pa.field(name, pa.string(), nullable=False))
    return schema


def _table_row(dataset: Dataset, schema: pa.Schema) -> Row:
    row = (CATALOG, SCHEMA, dataset.spec.name, TABLE_TYPE)
    return (*row, table_schema(dataset).serialize().to_pybytes()) if len(schema) > len(row) else row


def _is_home(command: Message) -> bool:
    """Say whether the filters of a command let the one catalog and the one schema through."""
    catalog, pattern = command.optional("catalog"), _pattern(command, "db_schema_filter_pattern")
    return catalog in (None, CATALOG) and (pattern is None or pattern.fullmatch(SCHEMA) is not None)


def _pattern(command: Message, field: str) -> re.Pattern[str] | None:
    r"""Read a pattern of LIKE: ``%`` for any text, ``_`` for any character, ``\`` before one that stands for itself.

    Letters match whatever their case, as names do.
    """
    text = command.optional(field)
    if text is None:
        return None
    segments = [""]
    for piece in re.findall(r"\\.|.", text, re.DOTALL):
        if piece == "%":
            segments.append("")
        else:
            segments[-1] += "." if piece == "_" else re.escape(piece[-1])
    first, *middle = segments
    last = f".*{middle.pop()}" if middle else ""
    # The first place that fits is as good as any other: tried once, so that no pattern takes for ever.
    spelled = first + "".join(f"(?>.*?{segment})" for segment in middle) + last
    return re.compile(spelled, re.IGNORECASE | re.DOTALL)


def _xdbc_types(command: Message) -> list[Row]:
    wanted = command.fields.data_type if command.fields.HasField("data_type") else None
    return [each.row() for each in _TYPES if wanted in (None, each.number)]


def _listing(schema: pa.Schema, rows: Iterable[Row]) -> Listing:
    return Listing(schema=schema, batches=_batches(schema, iter(rows)))


def _batches(schema: pa.Schema, rows: Iterator[Row]) -> Iterator[pa.RecordBatch]:
    """Yield rows in batches of a bounded size, at least one."""
    held: list[Row] = []
    size, count = 0, 0
    for row in rows:
        held.append(row)
        size += sum(len(value) for value in row if isinstance(value, bytes))
        if size >= BATCH_BYTES or len(held) >= PAGE_DATASETS:
            yield _batch(schema, held)
            held, size, count = [], 0, count + 1
    if held or not count:
        yield _batch(schema, held)


def _batch(schema: pa.Schema, rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [() for _ in schema]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
