"""Migrations: numbered, once each, by any number of servers at once, without privileges beyond a schema."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import timestore
from catalog.connections import Connections
from catalog.migrate import (
    Migration,
    apply_migrations,
    create_schema,
    known_migrations,
    migrate,
    newest_migration,
)
from tests.fixtures.data import cpu_table
from tests.fixtures.server import StartService
from timestore.errors import RetryableError, TimestoreError


def test_numbers_have_no_gaps() -> None:
    """Migrations are numbered from 1 without gaps."""
    assert [migration.number for migration in known_migrations()] == list(range(1, newest_migration() + 1))


def test_many_servers_at_once(postgres_dsn: str, catalog_schema: str) -> None:
    """Eight servers that start at once on an empty database apply each migration once."""
    with ThreadPoolExecutor(8) as pool:
        applied = list(pool.map(lambda _: migrate(postgres_dsn, catalog_schema), range(8)))

    assert sorted(len(each) for each in applied) == [0] * 7 + [len(known_migrations())]


def test_newer_catalog_is_refused(postgres_dsn: str, catalog_schema: str) -> None:
    """A catalog that a newer version has migrated is not touched."""
    migrate(postgres_dsn, catalog_schema)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        table = sql.Identifier(catalog_schema, "schema_migrations")
        connection.execute(sql.SQL("INSERT INTO {} (number, name) VALUES (9999, 'future')").format(table))

    with pytest.raises(RetryableError) as caught:
        migrate(postgres_dsn, catalog_schema)

    assert caught.value.kind == "fenced"


def test_servers_may_be_upgraded_one_by_one(
    start_service: StartService, postgres_dsn: str, catalog_schema: str, connections: Connections
) -> None:
    """A migration that says which older servers it suits lets those commit, and start, and no others."""
    known = newest_migration()
    with timestore.connect(start_service().url, retries=False) as client, connections.connection() as connection:
        insert = "INSERT INTO schema_migrations (number, name, commits_from) VALUES (9999, 'future', %s)"
        connection.execute(insert, (known,))

        assert client.append("cpu", cpu_table(10)).version == 1
        assert migrate(postgres_dsn, catalog_schema) == []
        with timestore.connect(start_service().url) as other:
            assert other.append("cpu", cpu_table(10, offset=10)).version == 2

        connection.execute("UPDATE schema_migrations SET commits_from = 9999 WHERE number = 9999")
        with pytest.raises(TimestoreError) as caught:
            client.append("cpu", cpu_table(10, offset=20))
        assert caught.value.kind == "fenced"


def test_a_migration_says_whom_it_suits() -> None:
    """By itself a migration suits only servers that know it."""
    assert Migration(7, "alone", "SELECT 1;").commits_from == 7
    assert Migration(7, "additive", "-- Adds a column.\n-- commits from 0005\nSELECT 1;").commits_from == 5


def test_older_server_does_not_commit(
    start_service: StartService, connections: Connections, postgres_dsn: str, catalog_schema: str
) -> None:
    """A running server stops committing once a newer one has migrated the catalog; what is there stays readable."""
    with timestore.connect(start_service().url, retries=False) as client:
        client.append("cpu", cpu_table(10))
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            table = sql.Identifier(catalog_schema, "schema_migrations")
            connection.execute(sql.SQL("INSERT INTO {} (number, name) VALUES (9999, 'future')").format(table))

        with pytest.raises(TimestoreError) as caught:
            client.append("cpu", cpu_table(10, offset=10))

        assert caught.value.kind == "fenced"
        assert client.read("cpu").equals(cpu_table(10))


def test_one_target_becomes_the_default_of_several(
    start_service: StartService, postgres_dsn: str, catalog_schema: str, tmp_path: Path
) -> None:
    """A catalog of migration 6 keeps its root, as that of 'default'; servers of then go on with their calls."""
    root_id = uuid4()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        create_schema(connection, catalog_schema)
        apply_migrations(connection, up_to=6)
        settle = (
            "INSERT INTO storage_targets (name, root_id) VALUES ('default', %s) "
            "ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING root_id"
        )
        connection.execute(settle, (root_id,))
        [(catalog_id, incarnation)] = connection.execute(
            "SELECT catalog_id, incarnation FROM catalog_identity"
        ).fetchall()
        (tmp_path / "data").mkdir()
        marker = {"format": 1, "catalog_id": catalog_id, "incarnation": incarnation, "root_id": root_id}
        (tmp_path / "data" / "timestore.json").write_text(json.dumps(marker, default=str))

        with timestore.connect(start_service().url) as client:
            client.append("cpu", cpu_table(10))
            client.add_storage("archive", str(tmp_path / "archive"))
            client.append("cold", cpu_table(10), create={"storage": "archive"})
            assert [each["state"] for each in client.list_storage()] == ["ok", "ok"]

        assert connection.execute(settle, (uuid4(),)).fetchall() == [(root_id,)]
        [(horizon,)] = connection.execute("SELECT raise_horizon(6)").fetchall()
        assert horizon > 0
        assert connection.execute("SELECT sweep_intents(6, '0'::interval, '1 day'::interval)").fetchall() == [(0,)]


def test_no_superuser_is_needed(start_service: StartService, postgres_dsn: str, catalog_schema: str) -> None:
    """A catalog lives in its own schema of somebody's Postgres, as a user who may only create that schema."""
    role = f"user_{catalog_schema}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(role)))
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE timestore TO {}").format(sql.Identifier(role)))
    dsn = make_conninfo(postgres_dsn, user=role, password="secret")

    with timestore.connect(start_service(catalog_dsn=dsn).url) as client:
        assert client.append("cpu", cpu_table(10)).version == 1

    with psycopg.connect(postgres_dsn) as connection:
        query = "SELECT DISTINCT schemaname FROM pg_tables WHERE tableowner = %s"
        assert connection.execute(query, (role,)).fetchall() == [(catalog_schema,)]


def test_missing_privilege_says_what_to_grant(postgres_dsn: str, catalog_schema: str) -> None:
    """A user who may not create the schema is told what to grant."""
    role = f"poor_{catalog_schema}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(role)))

    with pytest.raises(TimestoreError, match="grant it CREATE"):
        migrate(make_conninfo(postgres_dsn, user=role, password="secret"), catalog_schema)


def test_commits_are_synchronous_whatever_the_role_says(postgres_dsn: str, catalog_schema: str) -> None:
    """A role or client whose commits would be asynchronous gets synchronous ones here."""
    migrate(postgres_dsn, catalog_schema)
    careless = make_conninfo(postgres_dsn, options="-c synchronous_commit=off")
    with Connections(dsn=lambda: careless, schema=catalog_schema) as connections:
        connections.open(timeout_s=10)

        assert ("synchronous_commit", "on") in connections.write("read_safety")
