"""The catalog of a server, for commands that work on it directly."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from catalog.embedded import EmbeddedPostgres
from timestore_app.data_directory import DataDirectory, DirectoryInUseError
from timestore_app.settings import Settings


@contextmanager
def stopped_catalog(settings: Settings) -> Iterator[str]:
    """Give the DSN of the catalog that a server with these settings would use.

    An embedded Postgres is started for it, and the data directory owned, so that no server can start on it. Raises
    ``DirectoryInUseError``, ``DirectoryVersionError`` or ``EmbeddedPostgresError``.
    """
    if settings.catalog_dsn is not None:
        yield settings.catalog_dsn.get_secret_value()
        return
    with DataDirectory(path=settings.data_dir.absolute()) as directory:
        postgres = EmbeddedPostgres(directory=directory.postgres)
        postgres.start()
        try:
            yield postgres.private_dsn
        finally:
            postgres.stop()


@contextmanager
def joined_catalog(settings: Settings) -> Iterator[str]:
    """Give a DSN like ``stopped_catalog``; if a server runs on the data directory, that of its catalog."""
    try:
        with stopped_catalog(settings) as dsn:
            yield dsn
            return
    except DirectoryInUseError as exc:
        dsn = _dsn_to_join(exc)
    yield dsn


def _dsn_to_join(in_use: DirectoryInUseError) -> str:
    """Return the DSN that a running server tells others to join it by; raises what it was given if it tells none."""
    options = shlex.split(str(in_use.server.get("join", "")))
    if "--catalog-dsn" not in options or (dsn := options[options.index("--catalog-dsn") + 1]).startswith("("):
        raise in_use
    return dsn
