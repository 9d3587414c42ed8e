"""``timestore catalog``: the catalog as one file, to move it to another Postgres."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from catalog.embedded import EmbeddedPostgresError
from catalog.transfer import CatalogArchive, export_catalog, import_catalog
from timestore.errors import TimestoreError
from timestore_app.catalog_access import stopped_catalog
from timestore_app.cli import EXIT_FAILED
from timestore_app.cli.group import EXIT_DIRECTORY_IN_USE, CommandFailedError, fail
from timestore_app.cli.output import Output, output_options
from timestore_app.data_directory import DirectoryInUseError, DirectoryVersionError
from timestore_app.logs import configure_logs
from timestore_app.settings import Settings, SettingsError

F = TypeVar("F", bound=Callable[..., Any])


def _settings_options(command: F) -> F:
    """Give a command the options that say which catalog; it gets ``Settings`` as ``settings``."""

    @click.option("--data-dir", type=click.Path(path_type=Path), help="The data directory with an embedded Postgres.")
    @click.option("--catalog-dsn", metavar="DSN", help="A Postgres of your own instead.")
    @click.option("--catalog-schema", metavar="NAME", help="Schema of the catalog's tables; default: timestore.")
    @click.option("--config", type=click.Path(path_type=Path), help="A TOML file with settings of the server.")
    @functools.wraps(command)
    def with_settings(*args: Any, config: Path | None, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in ("data_dir", "catalog_dsn", "catalog_schema")}
        try:
            settings = Settings.load(config, {name: value for name, value in options.items() if value is not None})
        except SettingsError as exc:
            raise click.UsageError(str(exc)) from exc
        configure_logs(log_format=settings.log_format, level="warning")
        return command(*args, settings=settings, **kwargs)

    return with_settings  # type: ignore[return-value]  # click takes any callable


@click.group(name="catalog", short_help="Move the catalog to another Postgres.")
def catalog() -> None:
    """Move the catalog to another Postgres: a newer major version, another host, out of the embedded one.

    Stop all servers on it first. Data files stay where they are; the catalog alone says what is in them.
    """


@catalog.command(name="export", short_help="Write the catalog to a file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_settings_options
@output_options
def export_command(file: Path, settings: Settings, output: Output) -> None:
    """Write everything that the catalog says to FILE, a zip archive, which must not be there yet."""
    with _working_on(settings) as dsn:
        facts = export_catalog(dsn, settings.catalog_schema, file)
    _show(facts, f"{file} has the catalog", output)


@catalog.command(name="import", short_help="Fill a new catalog from a file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_settings_options
@output_options
def import_command(file: Path, settings: Settings, output: Output) -> None:
    """Fill a new catalog from FILE, all or nothing, and bring it up to date.

    There must be no catalog yet: an empty database or schema, or a data directory without its folder postgres.
    """
    with _working_on(settings) as dsn:
        facts = import_catalog(dsn, settings.catalog_schema, file)
    _show(facts, "the server can be started, with the same storage as before, on the catalog", output)


@contextmanager
def _working_on(settings: Settings) -> Iterator[str]:
    try:
        with stopped_catalog(settings) as dsn:
            yield dsn
    except DirectoryInUseError as exc:
        fail(f"{exc}. Stop it first", EXIT_DIRECTORY_IN_USE)
    except TimestoreError as exc:
        fail(str(exc), EXIT_FAILED)
    except (DirectoryVersionError, EmbeddedPostgresError) as exc:
        raise CommandFailedError(str(exc)) from exc


def _show(facts: CatalogArchive, what: str, output: Output) -> None:
    lines = [*(f"{name:<20} {rows:>12,} rows" for name, rows in facts.tables.items()), f"{what} {facts.catalog_id}"]
    output.document(facts.as_json(), lines)
