"""Psycopg's errors in the words of the contract. The one place that knows both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolTimeout, TooManyRequests

from timestore.errors import TimestoreError, error

INTENT_CONDEMNED = "TS001"
CATALOG_NEWER = "TS002"
PLAN_STALE = "TS003"
DATASET_GONE = "TS004"

# The server answered, and its answer says that the transaction was undone or never begun.
_BUSY = (pg.LockNotAvailable, pg.DeadlockDetected, pg.TooManyConnections, pg.QueryCanceled, pg.SerializationFailure)


class PlanStaleError(Exception):
    """Dataset, schema or key names changed between planning a commit and making it: look again and decide."""


class OutcomeUnknownError(Exception):
    """The connection broke while a commit was under way: it may have happened. Ask again with the same append id."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors into the contract's.

    Raises ``catalog_unavailable``, ``disk_full``, ``fenced`` or ``internal`` errors, and ``PlanStaleError``.
    """
    try:
        yield
    except psycopg.Error as exc:
        raise _translate(exc) from exc


def _translate(exc: psycopg.Error) -> Exception:
    match exc:
        case _ if exc.sqlstate == PLAN_STALE:
            return PlanStaleError()
        case _ if exc.sqlstate == INTENT_CONDEMNED:
            return error("fenced", "this append took too long and its files were given up; send it again")
        case _ if exc.sqlstate == CATALOG_NEWER:
            return error("fenced", "the catalog was migrated by a newer server; upgrade this one")
        case _ if exc.sqlstate == DATASET_GONE:
            return error("dataset_not_found", "the dataset was dropped meanwhile")
        case psycopg.DataError():
            return error("descriptor_invalid", "a value of the request has a NUL character or is out of range")
        case pg.DiskFull():
            return error("disk_full", "the catalog's disk is full; free space there, then send this again")
        case pg.InsufficientPrivilege():
            return error(
                "catalog_unavailable",
                "the catalog's user may not do this; grant it CREATE on the database, or make it the schema's owner",
            )
        case _ if isinstance(exc, _BUSY) or is_disconnect(exc):
            return unavailable()
    return error("internal", f"the catalog answered with an error: {type(exc).__name__}")


def is_verdict(exc: psycopg.Error) -> bool:
    """Say whether the commit function itself refused: then no attempt of this commit happened, nor can one later."""
    return exc.sqlstate in (PLAN_STALE, INTENT_CONDEMNED, CATALOG_NEWER)


def is_disconnect(exc: psycopg.Error) -> bool:
    """Say whether the connection, not the statement, failed: then nobody knows what became of the statement."""
    if isinstance(exc, PoolTimeout | TooManyRequests):
        return True
    state = exc.sqlstate or "08"
    return isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError) and state.startswith(("08", "57P"))


def unavailable() -> TimestoreError:
    return error(
        "catalog_unavailable",
        "the catalog does not answer; send this again with the same idempotency key",
        retry_after_s=1.0,
    )
