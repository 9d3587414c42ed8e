"""The SQL that makes a dataset's files one view: for queries in the server, and for people's own DuckDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

from readers.forms import storage_form
from readers.forms.form import quoted
from timestore.windows import EPOCH

STAND_INS = "stand_ins"  # the schema that sql_process makes for them


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFile:
    """A data file, and the semantic key that its rows have."""

    path: str
    key: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileExtent:
    """What is known of a data file's rows without opening it."""

    key: Mapping[str, str]
    min_ts_ns: int
    max_ts_ns: int


def view_statements(
    name: str,
    schema: pa.Schema,
    key_names: Iterable[str],
    files: Iterable[ViewFile],
    *,
    alias: str,
    kind: str = "TEMP VIEW",
) -> Iterator[str]:
    """Yield statements that attach every file and create the view ``name`` over them.

    Its columns are those of ``schema``, in the types that files have them in, then the key's parts as text. The first
    part of the union has no rows: it fixes columns and types also where older files have fewer or narrower ones.
    ``alias`` is the beginning of the attached databases' names, ``kind`` that of the view.
    """
    key_names = list(key_names)
    sources = []
    for number, file in enumerate(files):
        database = f"{alias}{number}"
        yield f"ATTACH {literal(file.path)} AS {database} (READ_ONLY)"
        sources.append(_source(f"{database}.data", file.key, key_names))
    yield _view(name, schema, key_names, sources, kind)


def stand_in_statements(
    name: str,
    schema: pa.Schema,
    key_names: Iterable[str],
    timestamp_column: str,
    extents: Iterable[FileExtent],
    *,
    alias: str,
) -> Iterator[str]:
    """Yield statements that create the same view over an empty table for each file, ``stand_ins.<alias><number>``.

    All that DuckDB is told of a file's rows is their key, and between which instants they lie.
    """
    key_names = list(key_names)
    columns = ", ".join(f"{quoted(field.name)} {_sql_type(field)}" for field in schema)
    column, type_ = quoted(timestamp_column), _sql_type(schema.field(timestamp_column))
    sources = []
    for number, extent in enumerate(extents):
        table = f"{STAND_INS}.{alias}{number}"
        yield f"CREATE TABLE {table} ({columns})"
        first, last = (_instant(moment_ns, type_) for moment_ns in (extent.min_ts_ns, extent.max_ts_ns))
        lies = f" WHERE {column} >= {first} AND {column} <= {last}"
        sources.append(_source(table, extent.key, key_names) + lies)
    yield _view(name, schema, key_names, sources, "VIEW")


def column_types(schema: pa.Schema, key_names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the columns of such a view with their types in SQL."""
    return [(field.name, _sql_type(field)) for field in schema] + [(key, "VARCHAR") for key in key_names]


def _source(table: str, key: Mapping[str, str], key_names: Iterable[str]) -> str:
    keys = "".join(f", {literal(key[name])} AS {quoted(name)}" for name in key_names)
    return f"SELECT *{keys} FROM {table}"


def _view(name: str, schema: pa.Schema, key_names: Iterable[str], sources: Iterable[str], kind: str) -> str:
    columns = column_types(schema, key_names)
    nothing = "SELECT " + ", ".join(f"NULL::{type_} AS {quoted(column)}" for column, type_ in columns) + " WHERE false"
    select_list = ", ".join(f"CAST({quoted(column)} AS {type_}) AS {quoted(column)}" for column, type_ in columns)
    union = "\nUNION ALL BY NAME ".join([nothing, *sources])
    return f"CREATE OR REPLACE {kind} {quoted(name)} AS SELECT {select_list} FROM (\n{union}\n)"


def _instant(moment_ns: int, sql_type: str) -> str:
    """Spell an instant that a column of this type holds exactly."""
    seconds, fraction_ns = divmod(moment_ns, 1_000_000_000)
    date, time = (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(" ").split(" ")
    digits = f"{fraction_ns:09}" if sql_type == "TIMESTAMP_NS" else f"{fraction_ns:09}"[:6]
    text = date if sql_type == "DATE" else f"{date} {time}.{digits}{'+00' if sql_type == 'TIMESTAMPTZ' else ''}"
    return f"CAST({literal(text)} AS {sql_type})"


def literal(text: str) -> str:
    """Spell a text."""
    return "'" + text.replace("'", "''") + "'"


def _sql_type(field: pa.Field) -> str:
    form = storage_form(field.type)
    assert form is not None  # no dataset has a column without one
    return form.sql_type
