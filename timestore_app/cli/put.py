"""``timestore put``: files into a dataset, exactly once."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import xxhash
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

import timestore
from timestore.client import Client
from timestore.errors import NotFoundError
from timestore.json_object import canonical_json
from timestore.receipt import Receipt
from timestore_app.cli.options import Pairs, Server, Zone, create_options, key_option, server_options
from timestore_app.cli.output import Output, output_options
from timestore_app.cli.sources import FORMATS, TEXT_FORMATS, ReadingOptions, format_of, open_source
from timestore_app.cli.text_types import EPOCH_UNITS, TIMESTAMP, TYPE_NAMES, TextRules

STDIN = "-"
HASH_BLOCK_BYTES = 1 << 20


def _types(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    types = Pairs(what="COLUMN=TYPE")(ctx, param, values)
    for name in types.values():
        if name not in TYPE_NAMES:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(TYPE_NAMES)}", ctx, param)
    return types


def _time_format(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value not in {"rfc3339", "iso", *EPOCH_UNITS} and ("%" not in value or "%z" in value or "%Z" in value):
        raise click.BadParameter(
            f"{value!r} is not rfc3339, iso, s, ms, us, ns, or a pattern like '%d.%m.%Y %H:%M' without a zone",
            ctx,
            param,
        )
    return value


@click.command(short_help="Append files: Parquet, Arrow, CSV or JSON lines.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--dataset", required=True, help="The dataset; it is created if it does not exist.")
@key_option("A part of the semantic key of all rows; once for each.")
@click.option("--idempotency-key", help="Name of the append; default: a hash of the file's bytes and the semantic key.")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Format; default: by the file's name.")
@click.option("--delimiter", help="Of CSV; default: a comma, a tab for .tsv.")
@click.option(
    "--type",
    "types",
    metavar="COLUMN=TYPE",
    multiple=True,
    callback=_types,
    help="Type of a column of CSV or JSON lines, such as int32 or timestamp; once for each.",
)
@click.option(
    "--time-format",
    default="rfc3339",
    show_default=True,
    callback=_time_format,
    help="How texts spell times: rfc3339 (with offset), iso (without), s, ms, us, ns (since 1970), or a "
    "pattern like '%d.%m.%Y %H:%M'.",
)
@click.option("--time-zone", type=Zone(), help="Zone of times without an offset; else they stay without a zone.")
@click.option("--null", "nulls", multiple=True, metavar="TEXT", help="A text that means null, such as NA.")
@create_options
@server_options
@output_options
def put(
    files: tuple[str, ...],
    dataset: str,
    key: dict[str, str],
    idempotency_key: str | None,
    format_: str | None,
    delimiter: str | None,
    types: dict[str, str],
    time_format: str,
    time_zone: Any,
    nulls: tuple[str, ...],
    create: dict[str, Any],
    server: Server,
    output: Output,
) -> None:
    """Append each FILE as one put: all of its rows, exactly once. - is standard input.

    Running the same command again adds nothing: the idempotency key is the same.

    A column of CSV gets the type that --type says; else that of the dataset; else the narrowest of bool, int64, double
    and string that every value of the file fits without losing a character. Times are never guessed: they are the
    column of --timestamp-column (or the dataset's), and those of --type NAME=timestamp, spelled as --time-format says.
    """
    if idempotency_key is not None and len(files) > 1:
        raise click.UsageError("--idempotency-key names one append; give one FILE with it")
    if STDIN in files and format_ is None:
        raise click.UsageError("standard input has no name that tells its format; give --format")
    rules = TextRules(
        timestamp_column=create.get("timestamp_column"),
        types=types,
        time_format=time_format,
        time_zone=str(time_zone) if time_zone is not None else None,
        nulls=nulls,
    )
    with server.client() as client:
        rules = _with_dataset(rules, client, dataset)
        options = ReadingOptions(format=format_, delimiter=delimiter, rules=rules)
        for name in files:
            with _file(name) as path:
                _check_times(path, options)
                append_key = idempotency_key or content_key(path, key)
                receipt = _append(client, dataset, path, options, key, append_key, create, name)
            output.document({"file": name, **receipt.as_json()}, [_line(name, receipt)])


def content_key(path: Path, key: dict[str, str]) -> str:
    """Return an idempotency key that is the same for the same bytes and semantic key, wherever the file is."""
    digest = xxhash.xxh3_128(canonical_json(key).encode() + b"\0")
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return f"file:{digest.hexdigest()}"


def _with_dataset(rules: TextRules, client: Client, dataset: str) -> TextRules:
    """Let text be read in the types of the dataset, if it exists."""
    try:
        described = client.describe(dataset)
    except NotFoundError:
        return rules
    column = rules.timestamp_column or described["timestamp_column"]
    return replace(rules, timestamp_column=column, dataset=client.schema(dataset))


def _check_times(path: Path, options: ReadingOptions) -> None:
    """Ask for the column of time, before a file of text is read for nothing."""
    rules = options.rules
    said = rules.timestamp_column is not None or any(name.startswith(TIMESTAMP) for name in rules.types.values())
    if not said and (options.format or format_of(path)) in TEXT_FORMATS:
        raise click.UsageError(f"which column of {path.name} is the time? say it by --timestamp-column NAME")


@contextmanager
def _file(name: str) -> Iterator[Path]:
    """Give a file; standard input becomes one, since it is read more than once: for its key, and for its rows."""
    if name != STDIN:
        yield Path(name)
        return
    with tempfile.NamedTemporaryFile(prefix="timestore-put-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


def _append(
    client: Client,
    dataset: str,
    path: Path,
    options: ReadingOptions,
    key: dict[str, str],
    idempotency_key: str,
    create: dict[str, Any],
    name: str,
) -> Receipt:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)

        def show(state: timestore.Progress) -> None:
            progress.update(task, completed=state.bytes_sent)

        return client.append(
            dataset,
            open_source(path, options),
            key=key,
            idempotency_key=idempotency_key,
            create=create or None,
            on_progress=show,
        )


def _line(name: str, receipt: Receipt) -> str:
    what = "was there already" if receipt.replayed else f"{receipt.files_total} files"
    return f"{name}: {receipt.rows:,} rows in {receipt.dataset} at version {receipt.version} ({what})"
