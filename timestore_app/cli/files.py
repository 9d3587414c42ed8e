"""Commands about the files of a version, for who can reach them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from readers.sql_views import ViewFile, view_statements
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.options import Server, selection_options, server_options, version_options
from timestore_app.cli.output import Output, output_options


@click.command(short_help="Print a DuckDB script that attaches the files.")
@click.argument("dataset")
@selection_options
@version_options
@server_options
@output_options
def files(
    dataset: str, server: Server, output: Output, version: int | None, as_of: datetime | None, **selection: Any
) -> None:
    """Print a script for a DuckDB of your own that attaches the files of a version and makes one table of them.

    The files must be reachable from where it runs. --from and --to choose whole files: some rows may lie outside.
    """
    with server.client() as client:
        described = client.describe(dataset)
        items = client.manifest(dataset, version=version, as_of=as_of, **selection)
        schema = client.schema(dataset, version=version, as_of=as_of)
    parts = [ViewFile(path=_local_path(item), key=item["key"]) for item in items]
    statements = ["SET TimeZone = 'UTC'"]
    statements += view_statements(dataset, schema, described["key_names"] or (), parts, alias="f")
    script = "".join(f"{statement};\n" for statement in statements)
    output.document({"dataset": dataset, "files": [part.path for part in parts], "script": script}, [script])


@click.command(short_help="Delete what dead servers left, now.")
@server_options
@output_options
def sweep(server: Server, output: Output) -> None:
    """Delete the files now that dead servers left in storage, and those that no version has any more.

    The server does so once a minute by itself.
    """
    with server.client() as client:
        output.document(client.sweep())


def _local_path(item: dict[str, Any]) -> str:
    parts = urlsplit(item["uri"] or "")
    if parts.scheme != "file":
        raise CommandFailedError(f"the file {item['uri'] or item['id']} is no local file; use timestore sql instead")
    return unquote(parts.path)
