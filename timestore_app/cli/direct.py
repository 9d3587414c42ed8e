"""For commands that work on catalog and storage themselves, not through a server."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from catalog.connections import Connections
from catalog.embedded import EmbeddedPostgresError
from storage.opening import open_store
from storage.store import Store
from timestore.errors import TimestoreError
from timestore_app.catalog_access import joined_catalog, stopped_catalog
from timestore_app.cli import EXIT_FAILED
from timestore_app.cli.group import EXIT_DIRECTORY_IN_USE, CommandFailedError, fail
from timestore_app.data_directory import DirectoryInUseError, DirectoryVersionError
from timestore_app.logs import configure_logs
from timestore_app.settings import Settings, SettingsError

CATALOG_TIMEOUT_S = 10.0
READER_BYTES = 256 << 20

_CATALOG_SETTINGS = ("data_dir", "catalog_dsn", "catalog_schema")

F = TypeVar("F", bound=Callable[..., Any])


def catalog_options(command: F) -> F:
    """Give a command the options that say which catalog; it gets ``Settings`` as ``settings``."""

    @click.option("--data-dir", type=click.Path(path_type=Path), help="The data directory with an embedded Postgres.")
    @click.option("--catalog-dsn", metavar="DSN", help="A Postgres of your own instead.")
    @click.option("--catalog-schema", metavar="NAME", help="Schema of the catalog's tables; default: timestore.")
    @click.option("--config", type=click.Path(path_type=Path), help="A TOML file with settings of the server.")
    @functools.wraps(command)
    def with_settings(*args: Any, config: Path | None, storage_url: str | None = None, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in _CATALOG_SETTINGS} | {"storage_url": storage_url}
        try:
            settings = Settings.load(config, {name: value for name, value in options.items() if value is not None})
        except SettingsError as exc:
            raise click.UsageError(str(exc)) from exc
        configure_logs(log_format=settings.log_format, level="warning")
        return command(*args, settings=settings, **kwargs)

    return with_settings  # type: ignore[return-value]  # click takes any callable


def storage_options(command: F) -> F:
    """Give a command the options that say which catalog and which storage; it gets ``Settings`` as ``settings``."""
    command = catalog_options(command)
    return click.option("--storage-url", metavar="URL", help="Where data files are; default: in the data directory.")(
        command
    )


@contextmanager
def stopped(settings: Settings) -> Iterator[str]:
    """Give the DSN of a catalog that no server of this data directory runs on; the command fails if one does."""
    try:
        with _reported(), stopped_catalog(settings) as dsn:
            yield dsn
    except DirectoryInUseError as exc:
        fail(f"{exc}. Stop it first", EXIT_DIRECTORY_IN_USE)


@contextmanager
def running_or_not(settings: Settings) -> Iterator[str]:
    """Give the DSN of a catalog, whether or not a server runs on it."""
    if settings.catalog_dsn is None and not (settings.data_dir / "VERSION").exists():
        raise CommandFailedError(f"there is no data directory {settings.data_dir}; name another with --data-dir")
    try:
        with _reported(), joined_catalog(settings) as dsn:
            yield dsn
    except DirectoryInUseError as exc:
        fail(f"{exc}. Its catalog is not known yet: try again shortly, or give --catalog-dsn", EXIT_DIRECTORY_IN_USE)


@contextmanager
def open_catalog(dsn: str, settings: Settings) -> Iterator[Connections]:
    """Connect to a catalog for one thread."""
    with Connections(
        dsn=lambda: dsn, schema=settings.catalog_schema, write_connections=1, read_connections=1
    ) as connections:
        connections.open(timeout_s=CATALOG_TIMEOUT_S)
        yield connections


def storage_of(settings: Settings) -> Store:
    """Open the storage that a server with these settings would use."""
    return open_store(settings.storage_url or str(settings.data_dir.absolute() / "data"))


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except TimestoreError as exc:
        fail(str(exc), EXIT_FAILED)
    except (DirectoryVersionError, EmbeddedPostgresError) as exc:
        raise CommandFailedError(str(exc)) from exc
