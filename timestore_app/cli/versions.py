"""Commands about versions and what made them."""

from __future__ import annotations

from typing import Any

import click

from timestore_app.cli.options import Server, selection_options, server_options, version_options
from timestore_app.cli.output import Output, output_options


@click.command(short_help="List the files of a version.")
@click.argument("dataset")
@selection_options
@version_options
@server_options
@output_options
def manifest(dataset: str, server: Server, output: Output, **selection: Any) -> None:
    """List the files that a version consists of, by window, key and version."""
    with server.client() as client:
        output.table(client.manifest(dataset, **selection), ["window", "key", "rows", "bytes", "added_version", "uri"])


@click.command(short_help="List the commits of a dataset.")
@click.argument("dataset")
@server_options
@output_options
def history(dataset: str, server: Server, output: Output) -> None:
    """List the commits of a dataset, newest first."""
    with server.client() as client:
        output.table(client.history(dataset), ["version", "kind", "committed_at", "appends", "rows"])


@click.command(short_help="List the appends with who made them.")
@click.argument("dataset")
@click.option("--principal", help="Only those of this one, such as token:feeder.")
@server_options
@output_options
def audit(dataset: str, principal: str | None, server: Server, output: Output) -> None:
    """List the appends of a dataset with who made them, newest first. Needs the grant admin on it."""
    columns = ["version", "committed_at", "principal", "idempotency_key", "rows", "bytes"]
    with server.client() as client:
        output.table(client.audit(dataset, principal=principal), columns)


@click.command(short_help="Show the receipt of an append.")
@click.argument("dataset")
@click.argument("idempotency_key")
@server_options
@output_options
def receipt(dataset: str, idempotency_key: str, server: Server, output: Output) -> None:
    """Show the receipt of the append with an idempotency key. While there is none, sending it again is safe."""
    with server.client() as client:
        output.document(client.receipt(dataset, idempotency_key).as_json())


@click.command(short_help="Give up an idempotency key for ever.")
@click.argument("dataset")
@click.argument("idempotency_key")
@server_options
@output_options
def abandon(dataset: str, idempotency_key: str, server: Server, output: Output) -> None:
    """Give up an idempotency key: afterwards no append with it can commit. If one has, its receipt is shown."""
    with server.client() as client:
        output.document(client.abandon(dataset, idempotency_key))
