"""``timestore serve``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_origin

import click

from catalog.embedded import EmbeddedPostgresError
from timestore import __version__
from timestore.errors import TimestoreError
from timestore_app.authentication import CredentialsError
from timestore_app.cli import EXIT_FAILED
from timestore_app.cli.group import EXIT_DIRECTORY_IN_USE
from timestore_app.data_directory import DirectoryInUseError, DirectoryVersionError
from timestore_app.exposure import ExposedError
from timestore_app.logs import configure_logs
from timestore_app.service import Service
from timestore_app.settings import Settings, SettingsError

EXIT_USAGE = 2


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one option for each setting."""
    for name, field in reversed(Settings.model_fields.items()):
        several = get_origin(field.annotation) is dict
        option = f"--{name.replace('_', '-').removesuffix('s' if several else '')}"
        shown = "" if field.default is None or field.default_factory else f" [default: {field.default}]"
        is_flag = field.annotation is bool
        command = click.option(
            option,
            name,
            default=None,
            is_flag=is_flag,
            flag_value=True if is_flag else None,
            multiple=several,
            callback=_none_if_empty if several else None,
            metavar=None if is_flag else "NAME=VALUE" if several else "VALUE",
            help=f"{'Repeatable. ' if several else ''}{field.description}{'' if is_flag else shown}",
        )(command)
    return command


def _none_if_empty(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...] | None:
    return given or None


@click.command(short_help="Start a server.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file with settings.")
@_settings_options
def serve(config: Path | None, **options: Any) -> None:
    """Start a server, by default with everything in one data directory.

    Every option can also be set as TIMESTORE_<NAME> in the environment, or in the file given by --config. Stop it with
    Ctrl-C or SIGTERM: running puts finish first.
    """
    try:
        settings = Settings.load(config, {name: value for name, value in options.items() if value is not None})
    except SettingsError as exc:
        _fail(str(exc), EXIT_USAGE)
    configure_logs(log_format=settings.log_format, level=settings.log_level)
    service = Service(settings=settings)
    service.handle_signals()
    try:
        service.open()
    except DirectoryInUseError as exc:
        _fail(str(exc), EXIT_DIRECTORY_IN_USE)
    except (
        TimestoreError,
        ExposedError,
        CredentialsError,
        DirectoryVersionError,
        EmbeddedPostgresError,
        OSError,
    ) as exc:
        _fail(str(exc), EXIT_FAILED)
    with suppress(OSError):  # nobody has to listen
        places = " and ".join(url for url in (service.url, service.http_url) if url is not None)
        click.echo(f"timestore {__version__} is ready at {places} (data in {settings.data_dir})")
    service.run()
    service.close()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # a call that never ends must not keep the process


def _fail(message: str, code: int) -> None:
    click.echo(f"timestore: {message}", err=True)
    sys.exit(code)
