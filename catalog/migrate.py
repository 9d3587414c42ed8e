"""Numbered migrations, applied once each, under an advisory lock.

A migration file is named ``NNNN_what.sql``. Each runs in a transaction of its own together with its record, so that a
crash leaves it done or not done.

Servers that do not know a migration commit no more once it is there, unless it says ``-- commits from NNNN`` in a line
of its own: then those that know migration NNNN or a later one go on, and servers can be upgraded one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import LiteralString

import psycopg
from psycopg import sql

from catalog.connections import CONNECT_TIMEOUT_S, Row
from catalog.errors import translated
from catalog.sql import QUERIES
from timestore.errors import error

_NAME = re.compile(r"(\d{4})_(\w+)\.sql\Z")
_COMMITS_FROM = re.compile(r"^-- commits from (\d{4})$", re.MULTILINE)
_LOCK_CLASS = 0x7453  # "tS": the advisory locks of Timestore; the second number is the schema's hash

# Catalogs older than migration 0003 have no column commits_from.
_APPLIED = "SELECT number, coalesce((to_jsonb(m) ->> 'commits_from')::integer, number) FROM schema_migrations m"


@dataclass(frozen=True, slots=True, order=True)
class Migration:
    """One step of the catalog's schema."""

    number: int
    name: str
    script: LiteralString

    @property
    def commits_from(self) -> int:
        """Return the oldest migration that a server must know to go on committing after this one."""
        said = _COMMITS_FROM.search(self.script)
        return int(said[1]) if said else self.number


def known_migrations() -> list[Migration]:
    """Read the migrations that this version brings, in order."""
    found = []
    for entry in files("catalog").joinpath("migrations").iterdir():
        if match := _NAME.match(entry.name):
            script = entry.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), match[2], script))
    return sorted(found)


def newest_migration() -> int:
    return known_migrations()[-1].number


def migrate(dsn: str, schema: str) -> list[Migration]:
    """Bring a schema up to date and return what was applied; any number of servers may call this at once.

    Creates the schema if it is missing. Raises ``catalog_unavailable``, or ``fenced`` when the catalog is newer
    than this version.
    """
    with connect(dsn) as connection, translated():
        connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", (_LOCK_CLASS, schema))
        create_schema(connection, schema)
        return apply_migrations(connection)


def check_migrated(dsn: str, schema: str) -> None:
    """See to it that a schema has a catalog of just this version, and change nothing; raises ``unsupported``."""
    with connect(dsn) as connection, translated():
        enter_catalog(connection, schema)
        [(newest,)] = connection.execute(QUERIES["newest_applied"]).fetchall()
    if newest != newest_migration():
        raise error(
            "unsupported",
            f"the catalog has migration {newest}, and this version of Timestore works on {newest_migration()}: use the "
            "version that the servers have, or let a server of this one migrate it first",
        )


def enter_catalog(connection: psycopg.Connection[Row], schema: str) -> None:
    """Make a schema the connection's; raises ``unsupported`` if it has no catalog."""
    if not has_catalog(connection, schema):
        raise error("unsupported", f"there is no catalog in the schema {schema!r}; check --catalog-dsn")
    connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))


def refuse_running_servers(connection: psycopg.Connection[Row]) -> None:
    """Raise ``unsupported`` if servers are running on the catalog that the connection has entered."""
    servers = [address for (address,) in connection.execute(QUERIES["running_servers"]).fetchall()]
    if servers:
        raise error(
            "unsupported",
            f"{len(servers)} server(s) are running on this catalog ({', '.join(servers)}); stop them first. "
            "One that was killed counts as running until its lease is over",
        )


def check_stopped(dsn: str, schema: str) -> None:
    """See to it that a schema has a catalog, on which no server runs; raises ``unsupported``."""
    with connect(dsn) as connection, translated():
        enter_catalog(connection, schema)
        refuse_running_servers(connection)


def check_no_catalog(dsn: str, schema: str) -> None:
    """Refuse a schema that has a catalog already; raises ``unsupported``."""
    with connect(dsn) as connection, translated():
        refuse_catalog(connection, schema)


def refuse_catalog(connection: psycopg.Connection[Row], schema: str) -> None:
    """Raise ``unsupported`` if a schema has a catalog."""
    if has_catalog(connection, schema):
        raise error("unsupported", f"the schema {schema!r} has a catalog already; name another with --catalog-schema")


def has_schema_catalog(dsn: str, schema: str) -> bool:
    """Say whether a schema has a catalog."""
    with connect(dsn) as connection, translated():
        return has_catalog(connection, schema)


def has_catalog(connection: psycopg.Connection[Row], schema: str) -> bool:
    """Say whether a schema of the connection's database has a catalog."""
    return bool(connection.execute(QUERIES["find_catalog"], {"schema": schema}).fetchall())


def connect(dsn: str) -> psycopg.Connection[Row]:
    """Connect for the first time, and explain what fails; never with the DSN, which may have secrets."""
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.OperationalError as exc:
        reason = str(exc).strip().splitlines()[-1]
        raise error("catalog_unavailable", f"the catalog cannot be reached; check --catalog-dsn: {reason}") from exc
    except psycopg.ProgrammingError as exc:
        raise error("unsupported", "--catalog-dsn is malformed; use a libpq conninfo or a postgresql:// URL") from exc


def create_schema(connection: psycopg.Connection[Row], schema: str) -> None:
    """Create a schema unless it is there, and make it the connection's."""
    name = sql.Identifier(schema)
    exists = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
    if not exists:  # CREATE SCHEMA IF NOT EXISTS would ask for the privilege even so
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    connection.execute(sql.SQL("SET search_path = {}").format(name))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp(), "
        "commits_from integer)"
    )


def apply_migrations(connection: psycopg.Connection[Row], *, up_to: int | None = None) -> list[Migration]:
    """Apply what the connection's schema lacks, at most to a number; the caller sees to it that nobody else does."""
    known = known_migrations()
    applied: dict[int, int] = dict(connection.execute(_APPLIED).fetchall())
    too_new = [number for number, commits_from in applied.items() if commits_from > known[-1].number]
    if too_new:
        raise error("fenced", f"the catalog has migration {max(too_new)}, too new for this version; upgrade it")
    missing = [each for each in known if each.number not in applied and each.number <= (up_to or each.number)]
    for migration in missing:
        with connection.transaction():
            connection.execute(migration.script)
            connection.execute(
                "INSERT INTO schema_migrations (number, name, commits_from) VALUES (%s, %s, %s)",
                (migration.number, migration.name, migration.commits_from),
            )
    return missing
