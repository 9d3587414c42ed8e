"""The SQL that makes a dataset's files one view: for queries in the server, and for people's own DuckDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from readers.forms import storage_form
from readers.forms.form import quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFile:
    """A data file, and the semantic key that its rows have."""

    path: str
    key: Mapping[str, str]


def view_statements(
    name: str, schema: pa.Schema, key_names: Iterable[str], files: Iterable[ViewFile], *, alias: str
) -> Iterator[str]:
    """Yield statements that attach every file and create the view ``name`` over them.

    Its columns are those of ``schema``, in the types that files have them in, then the key's parts as text. The first
    part of the union has no rows: it fixes columns and types also where older files have fewer or narrower ones.
    ``alias`` is the beginning of the attached databases' names.
    """
    key_names = list(key_names)
    columns = [(field.name, _sql_type(field)) for field in schema] + [(key, "VARCHAR") for key in key_names]
    parts = ["SELECT " + ", ".join(f"NULL::{type_} AS {quoted(column)}" for column, type_ in columns) + " WHERE false"]
    for number, file in enumerate(files):
        database = f"{alias}{number}"
        yield f"ATTACH {literal(file.path)} AS {database} (READ_ONLY)"
        keys = "".join(f", {literal(file.key[key])} AS {quoted(key)}" for key in key_names)
        parts.append(f"SELECT *{keys} FROM {database}.data")
    select_list = ", ".join(f"CAST({quoted(column)} AS {type_}) AS {quoted(column)}" for column, type_ in columns)
    union = "\nUNION ALL BY NAME ".join(parts)
    yield f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS SELECT {select_list} FROM (\n{union}\n)"


def literal(text: str) -> str:
    """Spell a text."""
    return "'" + text.replace("'", "''") + "'"


def _sql_type(field: pa.Field) -> str:
    form = storage_form(field.type)
    assert form is not None  # no dataset has a column without one
    return form.sql_type
