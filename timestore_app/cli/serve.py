"""``timestore serve``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from catalog.embedded import EmbeddedPostgresError
from timestore import __version__
from timestore.errors import TimestoreError
from timestore_app.cli import EXIT_FAILED
from timestore_app.cli.group import EXIT_DIRECTORY_IN_USE
from timestore_app.data_directory import DirectoryInUseError, DirectoryVersionError
from timestore_app.logs import configure_logs
from timestore_app.service import Service
from timestore_app.settings import Settings, SettingsError

EXIT_USAGE = 2


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one option for each setting."""
    for name, field in reversed(Settings.model_fields.items()):
        option = f"--{name.replace('_', '-')}"
        shown = "" if field.default is None or field.default_factory else f" [default: {field.default}]"
        is_flag = field.annotation is bool
        command = click.option(
            option,
            name,
            default=None,
            is_flag=is_flag,
            flag_value=True if is_flag else None,
            metavar=None if is_flag else "VALUE",
            help=f"{field.description}{'' if is_flag else shown}",
        )(command)
    return command


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
    except (TimestoreError, DirectoryVersionError, EmbeddedPostgresError, OSError) as exc:
        _fail(str(exc), EXIT_FAILED)
    with suppress(OSError):  # nobody has to listen
        click.echo(f"timestore {__version__} is ready at {service.url} (data in {settings.data_dir})")
    service.run()
    service.close()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # a call that never ends must not keep the process


def _fail(message: str, code: int) -> None:
    click.echo(f"timestore: {message}", err=True)
    sys.exit(code)
