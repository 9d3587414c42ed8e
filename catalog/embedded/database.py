"""The database inside the cluster."""

from __future__ import annotations

import math

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from catalog.embedded.deadline import Deadline
from catalog.embedded.errors import StartFailedError

DATABASE = "timestore"


def ensure_database(conninfo: str, *, deadline: Deadline) -> None:
    """Create the database unless it exists: a kill may have come between initdb and here.

    :raises StartFailedError: Postgres serves, but not to us.
    """
    maintenance = make_conninfo(conninfo, dbname="postgres", connect_timeout=max(2, math.ceil(deadline.left_s())))
    try:
        with psycopg.connect(maintenance, autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.Error as exc:
        raise StartFailedError(f"Postgres runs but does not serve: {exc}") from exc
