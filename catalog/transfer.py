"""A catalog as one file, to move it to another Postgres: a newer major version, another host, out of the embedded one.

The file is a zip archive: ``catalog.json`` says what it is, and ``tables/<name>`` has each table in the text format of
Postgres' COPY, which every version reads. What it says is what the catalog held at one instant.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from catalog.connections import Row
from catalog.errors import translated
from catalog.migrate import (
    apply_migrations,
    connect,
    create_schema,
    enter_catalog,
    migrate,
    newest_migration,
    refuse_catalog,
    refuse_running_servers,
)
from catalog.sql import QUERIES
from timestore.errors import TimestoreError, error

ARCHIVE_FORMAT = 1
_FACTS = "catalog.json"
_STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogArchive:
    """What an archive says about itself."""

    migration: int  # the newest that the catalog had
    catalog_id: str
    tables: dict[str, int]  # rows of each, in the order in which they can be filled

    def as_json(self) -> dict[str, Any]:
        return {
            "format": ARCHIVE_FORMAT,
            "migration": self.migration,
            "catalog_id": self.catalog_id,
            "tables": [{"name": name, "rows": rows} for name, rows in self.tables.items()],
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> CatalogArchive:
        """Read what ``as_json`` wrote; raises ``unsupported`` for an archive of a newer version."""
        if facts.get("format") != ARCHIVE_FORMAT or facts["migration"] > newest_migration():
            raise error("unsupported", "the archive was made by a newer version of Timestore; use that one or a later")
        return cls(
            migration=facts["migration"],
            catalog_id=facts["catalog_id"],
            tables={table["name"]: table["rows"] for table in facts["tables"]},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    identity: str | None  # the column that a sequence fills

    def copy(self, direction: sql.SQL) -> sql.Composed:
        columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        return sql.SQL("COPY {} ({}) {}").format(sql.Identifier(self.name), columns, direction)


def export_catalog(dsn: str, schema: str, target: Path) -> CatalogArchive:
    """Write the catalog to a new file and return what is in it.

    Raises ``catalog_unavailable``; ``unsupported`` when there is no catalog, or when servers are running on it: what
    they committed later would be missing. Raises ``FileExistsError`` when the file is there already.
    """
    with connect(dsn) as connection, translated(), _new_archive(target) as archive:
        enter_catalog(connection, schema)
        refuse_running_servers(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        [(migration, catalog_id)] = connection.execute(QUERIES["read_archive_facts"]).fetchall()
        tables = _tables(connection)
        rows = {table.name: _copy_out(connection, archive, table) for table in tables}
        facts = CatalogArchive(migration=migration, catalog_id=str(catalog_id), tables=rows)
        archive.writestr(_FACTS, json.dumps(facts.as_json(), indent=2))
        return facts


def import_catalog(dsn: str, schema: str, source: Path) -> CatalogArchive:
    """Fill a new catalog from a file, bring it up to date, and return what came in; all or nothing.

    Raises ``catalog_unavailable``; ``unsupported`` when the file is no archive, when a newer version made it, or when
    the schema has a catalog already. Raises ``OSError`` when the file cannot be read.
    """
    with _opened(source) as archive:
        facts = CatalogArchive.from_json(json.loads(archive.read(_FACTS)))
        with connect(dsn) as connection, translated(), connection.transaction():
            refuse_catalog(connection, schema)
            create_schema(connection, schema)
            apply_migrations(connection, up_to=facts.migration)
            _fill(connection, archive, facts)
    migrate(dsn, schema)
    return facts


def _tables(connection: psycopg.Connection[Row]) -> list[_Table]:
    """Return the catalog's tables, each after those that it refers to."""
    tables = {}
    before: TopologicalSorter[str] = TopologicalSorter()
    for name, columns, identity, refers_to in connection.execute(QUERIES["list_tables"]).fetchall():
        tables[name] = _Table(name=name, columns=tuple(columns), identity=identity)
        before.add(name, *refers_to)
    return [tables[name] for name in before.static_order()]


def _copy_out(connection: psycopg.Connection[Row], archive: zipfile.ZipFile, table: _Table) -> int:
    with (
        archive.open(f"tables/{table.name}", "w", force_zip64=True) as entry,
        connection.cursor() as cursor,
    ):
        with cursor.copy(table.copy(sql.SQL("TO STDOUT"))) as copy:
            for data in copy:
                entry.write(data)
        return cursor.rowcount


def _fill(connection: psycopg.Connection[Row], archive: zipfile.ZipFile, facts: CatalogArchive) -> None:
    tables = _tables(connection)
    if {table.name for table in tables} != set(facts.tables):
        raise _damaged("its tables are not those of its migration")
    names = sql.SQL(", ").join(sql.Identifier(table.name) for table in tables)
    connection.execute(sql.SQL("TRUNCATE {}").format(names))  # the migrations filled some
    for table in tables:
        rows = _copy_in(connection, archive, table)
        if rows != facts.tables[table.name]:
            raise _damaged(f"the table {table.name} has {rows} rows, not {facts.tables[table.name]}")


def _copy_in(connection: psycopg.Connection[Row], archive: zipfile.ZipFile, table: _Table) -> int:
    with archive.open(f"tables/{table.name}") as entry, connection.cursor() as cursor:
        with cursor.copy(table.copy(sql.SQL("FROM STDIN"))) as copy:
            while step := entry.read(_STEP_BYTES):
                copy.write(step)
        rows = cursor.rowcount
    if table.identity is not None and rows:
        query = sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), max({})) FROM {}").format(
            table.name, table.identity, sql.Identifier(table.identity), sql.Identifier(table.name)
        )
        connection.execute(query)
    return rows


@contextmanager
def _new_archive(target: Path) -> Iterator[zipfile.ZipFile]:
    """Write a new file that appears only when it is whole."""
    if target.exists():
        raise FileExistsError(f"{target} is there already; name another file")
    partial = target.with_name(f"{target.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w", compression=zipfile.ZIP_DEFLATED) as archive:
            yield archive
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _opened(source: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as exc:
        raise _damaged(str(exc)) from exc


def _damaged(why: str) -> TimestoreError:
    return error("unsupported", f"the archive is damaged or none of Timestore's ({why}); use another copy of it")
