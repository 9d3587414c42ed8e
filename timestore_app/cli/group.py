"""``timestore``: the table of commands, each loaded only when it is used, and what their errors look like."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NoReturn

import click

from timestore import __version__
from timestore.errors import TimestoreError
from timestore_app.cli import EXIT_FAILED, INTERRUPTED, load

EXIT_DIRECTORY_IN_USE = 3
EXIT_REFUSED = 4
EXIT_UNREACHABLE = 5
_UNREACHABLE_KINDS = ("unreachable", "cancelled")

# Where a command is, and its line in the help: loading all commands only to list them would take a second.
COMMANDS = {
    "serve": ("timestore_app.cli.serve:serve", "Start a server."),
    "put": ("timestore_app.cli.put:put", "Append files: Parquet, Arrow, CSV or JSON lines."),
    "get": ("timestore_app.cli.rows:get", "Read rows of a dataset."),
    "sql": ("timestore_app.cli.rows:sql", "Query datasets by SQL."),
    "datasets": ("timestore_app.cli.datasets:datasets", "List the datasets."),
    "describe": ("timestore_app.cli.datasets:describe", "Describe a dataset."),
    "create": ("timestore_app.cli.datasets:create", "Create a dataset without rows."),
    "drop": ("timestore_app.cli.datasets:drop", "Drop a dataset."),
    "retention": ("timestore_app.cli.datasets:retention", "Say how long a dataset's windows are kept."),
    "token": ("timestore_app.cli.token:token", "Make, list and revoke tokens."),
    "tls": ("timestore_app.cli.tls:tls", "Make a certificate."),
    "manifest": ("timestore_app.cli.versions:manifest", "List the files of a version."),
    "history": ("timestore_app.cli.versions:history", "List the commits of a dataset."),
    "audit": ("timestore_app.cli.versions:audit", "List the appends with who made them."),
    "receipt": ("timestore_app.cli.versions:receipt", "Show the receipt of an append."),
    "abandon": ("timestore_app.cli.versions:abandon", "Give up an idempotency key for ever."),
    "files": ("timestore_app.cli.files:files", "Print a DuckDB script that attaches the files."),
    "fsck": ("timestore_app.cli.fsck:fsck", "Compare the catalog with the storage."),
    "rebuild": ("timestore_app.cli.rebuild:rebuild", "Make a catalog anew from the data files."),
    "storage": ("timestore_app.cli.storage:storage", "Add, list and test the places that data files go to."),
    "sweep": ("timestore_app.cli.files:sweep", "Delete what dead servers left, now."),
    "doctor": ("timestore_app.cli.doctor:doctor", "Check this machine, a data directory or a server."),
    "catalog": ("timestore_app.cli.catalog:catalog", "Move the catalog to another Postgres."),
    "completion": ("timestore_app.cli.completion:completion", "Print a script for the shell's completion."),
}


class Commands(click.Group):
    """A group whose commands are imported by name, and whose errors are one line that says what to do."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        command: click.Command = load(COMMANDS[name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn what it raises into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except TimestoreError as exc:
            key = f" (idempotency key {exc.idempotency_key!r}: repeat with it)" if exc.idempotency_key else ""
            fail(f"{exc}{key}", EXIT_UNREACHABLE if exc.kind in _UNREACHABLE_KINDS else EXIT_REFUSED)
        except BrokenPipeError:
            raise  # click ends the program quietly: nobody reads its output any more
        except CommandFailedError as exc:
            fail(str(exc), EXIT_FAILED)
        except OSError as exc:
            fail(f"{exc.strerror or exc}{f': {exc.filename}' if exc.filename else ''}", EXIT_FAILED)
        except KeyboardInterrupt:
            fail(INTERRUPTED, EXIT_FAILED)


class CommandFailedError(Exception):
    """Something on this side does not work; the message says what and what to do."""


def fail(message: str, code: int) -> NoReturn:
    """End with a line on standard error."""
    with suppress(OSError):
        click.echo(f"timestore: {message}", err=True)
    raise click.exceptions.Exit(code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="timestore")
def cli() -> None:
    """Take Arrow streams in over Arrow Flight, exactly once, into DuckDB files; read and query them.

    Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 data directory in use, 4 refused by the server, 5 unreachable.
    """
