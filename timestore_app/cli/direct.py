"""For commands that work on catalog and storage themselves, not through a server."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from catalog.connections import Connections
from catalog.embedded import EmbeddedPostgresError
from catalog.storage_targets import TargetRegister
from storage.local_files import LocalFiles
from storage.opening import open_store
from storage.read_cache import ReadCache
from storage.store import Store
from storage.target_files import TargetFiles
from storage.targets import Targets
from timestore.errors import TimestoreError
from timestore_app.catalog_access import joined_catalog, stopped_catalog
from timestore_app.cli import EXIT_FAILED
from timestore_app.cli.group import EXIT_DIRECTORY_IN_USE, CommandFailedError, fail
from timestore_app.data_directory import DirectoryInUseError, DirectoryVersionError
from timestore_app.logs import configure_logs
from timestore_app.settings import Settings, SettingsError

CATALOG_TIMEOUT_S = 10.0
READER_BYTES = 256 << 20
CACHE_BYTES = 1 << 30  # of remote files, while the command runs

_CATALOG_SETTINGS = ("data_dir", "catalog_dsn", "catalog_schema")
_STORAGE_SETTINGS = ("storage_url", "storage_options")

F = TypeVar("F", bound=Callable[..., Any])


def catalog_options(command: F) -> F:
    """Give a command the options that say which catalog; it gets ``Settings`` as ``settings``."""

    @click.option("--data-dir", type=click.Path(path_type=Path), help="The data directory with an embedded Postgres.")
    @click.option("--catalog-dsn", metavar="DSN", help="A Postgres of your own instead.")
    @click.option("--catalog-schema", metavar="NAME", help="Schema of the catalog's tables; default: timestore.")
    @click.option("--config", type=click.Path(path_type=Path), help="A TOML file with settings of the server.")
    @functools.wraps(command)
    def with_settings(*args: Any, config: Path | None, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name, None) for name in (*_CATALOG_SETTINGS, *_STORAGE_SETTINGS)}
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
    command = click.option(
        "--storage-option",
        "storage_options",
        multiple=True,
        callback=lambda _ctx, _option, given: given or None,
        metavar="NAME=VALUE",
        help="What an object store has to be told beside its URL; give it for each.",
    )(command)
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
def running_or_not(settings: Settings, *, may_be_new: bool = False) -> Iterator[str]:
    """Give the DSN of a catalog, whether or not a server runs on it; ``may_be_new``: of a new data directory too."""
    if not may_be_new and settings.catalog_dsn is None and not (settings.data_dir / "VERSION").exists():
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
    url = settings.storage_url or str(settings.data_dir.absolute() / "data")
    return open_store(url, settings.plain_storage_options())


@contextmanager
def local_files(targets: Targets) -> Iterator[LocalFiles]:
    """Give stored files on this machine: remote ones are fetched into the directory for temporary files."""
    with (
        tempfile.TemporaryDirectory(prefix="timestore-", ignore_cleanup_errors=True) as directory,
        ReadCache(targets=targets, directory=Path(directory), limit_bytes=CACHE_BYTES) as cache,
    ):
        yield TargetFiles(targets=targets, cache=cache)


def targets_of(connections: Connections, settings: Settings) -> Targets:
    """Open the storage targets that a server with these settings would use."""
    return Targets(default=storage_of(settings), added=TargetRegister(connections=connections).targets)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except TimestoreError as exc:
        fail(str(exc), EXIT_FAILED)
    except (DirectoryVersionError, EmbeddedPostgresError) as exc:
        raise CommandFailedError(str(exc)) from exc
