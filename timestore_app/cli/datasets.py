"""Commands about datasets as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from timestore_app.cli.options import Server, create_options, server_options
from timestore_app.cli.output import Output, field_lines, output_options
from timestore_app.cli.sources import ReadingOptions, open_source


@click.command(short_help="List the datasets.")
@server_options
@output_options
def datasets(server: Server, output: Output) -> None:
    """List the datasets, by name."""
    with server.client() as client:
        columns = ["dataset", "version", "window", "order", "timestamp_column", "key_names", "created_at"]
        output.table(client.datasets(), columns)


@click.command(short_help="Describe a dataset.")
@click.argument("dataset")
@server_options
@output_options
def describe(dataset: str, server: Server, output: Output) -> None:
    """Describe a dataset: its columns, its policies, and how much there is of it."""
    with server.client() as client:
        _print_description(client.describe(dataset), output)


@click.command(short_help="Create a dataset without rows.")
@click.argument("dataset")
@click.option(
    "--schema-of",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="A Parquet or Arrow file that has the columns; its rows are not sent.",
)
@create_options
@server_options
@output_options
def create(dataset: str, schema_of: Path, create: dict[str, Any], server: Server, output: Output) -> None:
    """Create a dataset without rows, with the columns of a file; the first put creates one as well."""
    schema = open_source(schema_of, ReadingOptions()).schema
    with server.client() as client:
        _print_description(client.create_dataset(dataset, schema, **create), output)


@click.command(short_help="Drop a dataset.")
@click.argument("dataset")
@click.option("--confirm", metavar="NAME", help="The name once more; asked for if it is not given.")
@server_options
@output_options
def drop(dataset: str, confirm: str | None, server: Server, output: Output) -> None:
    """Drop a dataset with all its rows. There is no way back; its name is free afterwards."""
    if confirm is None:
        confirm = click.prompt(f"All rows of {dataset!r} will be gone. Its name once more", default="", err=True)
    if confirm != dataset:
        raise click.BadParameter(f"{confirm!r} is not {dataset!r}; nothing was dropped", param_hint="--confirm")
    with server.client() as client:
        output.document(client.drop_dataset(dataset, confirm=confirm))


@click.command(short_help="Say how long a dataset's windows are kept.")
@click.argument("dataset")
@click.argument("retention", metavar="DURATION|forever")
@server_options
@output_options
def retention(dataset: str, retention: str, server: Server, output: Output) -> None:
    """Say how long windows are kept after their end: <n>m, <n>h or <n>d, or forever."""
    with server.client() as client:
        _print_description(client.set_retention(dataset, None if retention == "forever" else retention), output)


def _print_description(fields: dict[str, Any], output: Output) -> None:
    shown = {name: value for name, value in fields.items() if name not in {"schema", "columns", "incarnation"}}
    output.document(fields, None if output.as_json else _description_lines(shown, fields["columns"]))


def _description_lines(fields: dict[str, Any], columns: list[dict[str, Any]]) -> list[str]:
    texts = [f"{column['name']} {column['type']}{'' if column['nullable'] else ' not null'}" for column in columns]
    return [*field_lines(fields), "columns", *(f"  {text}" for text in texts)]
