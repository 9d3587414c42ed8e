"""Commands that give rows: ``get`` and ``sql``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import pyarrow as pa

from timestore_app.cli.options import (
    Duration,
    Instant,
    Pairs,
    Server,
    selection_options,
    server_options,
    version_options,
)
from timestore_app.cli.output import Output, output_options
from timestore_app.cli.row_output import STDOUT, print_rows, write_rows
from timestore_app.cli.sources import FORMATS, format_of

DEFAULT_LIMIT = 20

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where rows go."""

    path: str | None
    format: str | None
    limit: int
    output: Output

    def take(self, rows: pa.RecordBatchReader) -> None:
        """Print rows, or write them all."""
        if self.path is None and self.output.as_json:
            write_rows(rows, STDOUT, "jsonl", self.output.zone)
        elif self.path is None:
            print_rows(rows, limit=self.limit, zone=self.output.zone)
        else:
            count = write_rows(rows, self.path, self._file_format(self.path), self.output.zone)
            click.echo(f"timestore: {count:,} rows in {self.path}", err=True)

    def _file_format(self, path: str) -> str:
        if self.format is None and path == STDOUT:
            raise click.UsageError("standard output has no name that tells its format; give --format")
        return self.format or format_of(Path(path))


def _row_options(command: F) -> F:
    """Give a command the options of where its rows go; it gets a ``Target`` as ``target``."""

    @click.option("-o", "--output", "path", metavar="FILE", help="Write all rows to a file; - is standard output.")
    @click.option("--format", "format_", type=click.Choice(FORMATS), help="Of the file; default: by its name.")
    @click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=DEFAULT_LIMIT,
        show_default=True,
        help="How many rows to show in the terminal. Files and --json get all.",
    )
    @output_options
    @functools.wraps(command)
    def with_target(
        *args: Any, path: str | None, format_: str | None, limit: int, output: Output, **kwargs: Any
    ) -> Any:
        target = Target(path=path, format=format_, limit=limit, output=output)
        return command(*args, target=target, **kwargs)

    return with_target  # type: ignore[return-value]  # click takes any callable


def _columns(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:  # noqa: ARG001
    return value.split(",") if value is not None else None


@click.command(short_help="Read rows of a dataset.")
@click.argument("dataset")
@click.option("--columns", metavar="A,B,...", callback=_columns, help="Only these columns.")
@click.option("--with-key", is_flag=True, help="Add the key's parts as text columns.")
@click.option("--parallel", type=click.IntRange(1, 8), default=1, show_default=True, help="Parts to read at once.")
@selection_options
@version_options
@_row_options
@server_options
def get(dataset: str, server: Server, target: Target, **selection: Any) -> None:
    """Read rows of a dataset at one version, in the order of time windows.

    Without -o they are shown in the terminal, or printed as JSON lines by --json. A file appears only when it is whole.
    """
    with server.client() as client:
        target.take(client.read_batches(dataset, **selection))


def _versions(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    pairs = Pairs(what="DATASET=VERSION")(ctx, param, values)
    if wrong := [text for text in pairs.values() if not (text.isascii() and text.isdigit())]:
        raise click.BadParameter(f"{wrong[0]!r} is no version", ctx, param)
    return {name: int(text) for name, text in pairs.items()}


@click.command(short_help="Query datasets by SQL.")
@click.argument("query")
@click.option("--version", type=click.IntRange(min=0), help="The version, if the query reads one dataset.")
@click.option(
    "--version-of",
    "versions",
    metavar="DATASET=VERSION",
    multiple=True,
    callback=_versions,
    help="The version of a dataset; once for each.",
)
@click.option("--as-of", type=Instant(), help="The versions that were current at this time.")
@click.option("--max-rows", type=click.IntRange(min=1), help="Fail if the result has more rows.")
@click.option("--timeout", type=Duration(), help="Fail if the query takes longer; default 30s, at most 10m.")
@_row_options
@server_options
def sql(
    query: str,
    version: int | None,
    versions: dict[str, int],
    as_of: datetime | None,
    max_rows: int | None,
    timeout: float | None,
    server: Server,
    target: Target,
) -> None:
    """Query datasets by one SQL statement of DuckDB, in the server. QUERY - is read from standard input.

    Each dataset is a table of its name; the parts of its key are text columns.
    """
    text = sys.stdin.read() if query == "-" else query
    with server.client() as client:
        rows = client.sql_batches(
            text, version=version, versions=versions, as_of=as_of, max_rows=max_rows, timeout_s=timeout
        )
        target.take(rows)
