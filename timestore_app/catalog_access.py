"""The catalog of a server that is not running, for commands that work on it directly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from catalog.embedded import EmbeddedPostgres
from timestore_app.data_directory import DataDirectory
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
