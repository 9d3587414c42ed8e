"""Connections to the catalog: two pools, so that long reads never hold up commits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool

from catalog.errors import translated
from catalog.patience import Patience
from catalog.sql import QUERIES
from timestore.errors import error

MINIMUM_POSTGRES = 150000
CONNECT_TIMEOUT_S = 5
ACQUIRE_TIMEOUT_S = 10.0
# How long a Postgres may be silent. It bounds statements and waits for locks itself, by less: see the settings below.
CHECK_S = 5.0
COMMIT_S = 30.0
STATEMENT_S = 65.0

# A server that stops answering is noticed within seconds, also in the middle of a statement.
_TCP = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_SESSION = (
    "SET synchronous_commit = on",
    "SET idle_in_transaction_session_timeout = '10s'",
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '60s'",
    "SET timezone = 'UTC'",
)

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse:
    """How a pool of connections is used: now, and since its start."""

    name: str
    busy: int
    idle: int
    limit: int
    waiting: int  # callers without a connection
    requests: int
    failures: int  # callers that got none in time
    waited_s: float  # by all callers together


class Connections:
    """The catalog's two connection pools, for writing and for reading.

    Thread safe. Every connection is in autocommit mode: each statement is a transaction of its own.
    """

    def __init__(
        self, *, dsn: Callable[[], str], schema: str, write_connections: int = 8, read_connections: int = 8
    ) -> None:
        self._dsn = dsn  # asked again for every connection: an embedded Postgres may come back on another port
        self.schema = schema
        self._patience = Patience()
        self._writes = self._pool("catalog-write", write_connections, self._configure)
        self._reads = self._pool("catalog-read", read_connections, self._configure_reads)

    def open(self, *, timeout_s: float) -> None:
        """Open both pools and check that the catalog is one that commits durably.

        Raises ``catalog_unavailable`` or ``unsupported``.
        """
        self._patience.open()
        with translated():
            for pool in (self._writes, self._reads):
                pool.open()
                pool.wait(timeout_s)
            self._check_server()

    def close(self) -> None:
        for pool in (self._writes, self._reads):
            pool.close()
        self._patience.close()

    def use_now(self) -> list[PoolUse]:
        """Say how the pools are used, without asking Postgres."""
        return [_pool_use("write", self._writes.get_stats()), _pool_use("read", self._reads.get_stats())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend a connection of the writing pool, errors translated."""
        with translated(), self._lent(self._writes, STATEMENT_S) as connection:
            yield connection

    @contextmanager
    def untranslated(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend a connection of the writing pool to a caller who must tell psycopg's errors apart."""
        with self._lent(self._writes, COMMIT_S) as connection:
            yield connection

    def write(self, query: str, parameters: dict[str, object] | None = None) -> list[Row]:
        """Run a named statement on the writing pool."""
        with self.connection() as connection:
            return _run(connection, query, parameters)

    def read(self, query: str, parameters: dict[str, object] | None = None) -> list[Row]:
        """Run a named statement on the reading pool."""
        with translated(), self._lent(self._reads, STATEMENT_S) as connection:
            return _run(connection, query, parameters)

    @contextmanager
    def _lent(self, pool: ConnectionPool[psycopg.Connection[Row]], limit_s: float) -> Iterator[psycopg.Connection[Row]]:
        with pool.connection() as connection, self._patience.limited(connection, limit_s):
            yield connection

    def _pool(
        self, name: str, size: int, configure: Callable[[psycopg.Connection[Row]], None]
    ) -> ConnectionPool[psycopg.Connection[Row]]:
        return ConnectionPool(
            self._dsn,
            name=name,
            min_size=1,
            max_size=size,
            timeout=ACQUIRE_TIMEOUT_S,
            # The pauses between attempts double until this is over; asking for a connection starts them anew. With the
            # default of five minutes, a catalog that was away for three would be found again after two more.
            reconnect_timeout=ACQUIRE_TIMEOUT_S,
            open=False,
            # Across a restart of Postgres each stale connection would fail once: look before lending.
            check=self._check,
            configure=configure,
            kwargs={"autocommit": True, "application_name": "timestore", **_TCP},
        )

    def _check(self, connection: psycopg.Connection[Row]) -> None:
        with self._patience.limited(connection, CHECK_S):
            ConnectionPool.check_connection(connection)

    def _configure(self, connection: psycopg.Connection[Row]) -> None:
        with self._patience.limited(connection, CHECK_S):
            for setting in _SESSION:
                connection.execute(setting)
            connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(self.schema)))

    def _configure_reads(self, connection: psycopg.Connection[Row]) -> None:
        self._configure(connection)
        # Which index serves a manifest depends on what the caller asks for: a plan made for all of them serves nobody.
        connection.execute("SET plan_cache_mode = force_custom_plan")

    def _check_server(self) -> None:
        with self._writes.connection() as connection:
            if connection.info.server_version < MINIMUM_POSTGRES:
                raise error(
                    "unsupported",
                    f"the catalog is Postgres {connection.info.server_version // 10000}; 15 or newer is needed",
                )
            if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
                raise error("unsupported", f"the catalog's database has the encoding {encoding}; UTF8 is needed")
            unsafe = [name for name, setting in _run(connection, "read_safety", None) if setting == "off"]
        if unsafe:
            raise error(
                "unsupported",
                f"the catalog's Postgres has {', '.join(unsafe)} off, so a commit could be lost; turn it on",
            )


def _pool_use(name: str, stats: dict[str, int]) -> PoolUse:
    idle = stats.get("pool_available", 0)
    return PoolUse(
        name=name,
        busy=stats.get("pool_size", 0) - idle,
        idle=idle,
        limit=stats.get("pool_max", 0),
        waiting=stats.get("requests_waiting", 0),
        requests=stats.get("requests_num", 0),
        failures=stats.get("requests_errors", 0),
        waited_s=stats.get("requests_wait_ms", 0) / 1000,
    )


def _run(connection: psycopg.Connection[Row], query: str, parameters: dict[str, object] | None) -> list[Row]:
    cursor = connection.execute(QUERIES[query], parameters)
    return cursor.fetchall() if cursor.description else []
