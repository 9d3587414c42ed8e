"""Commands about the files of a version, for who can reach them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
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


@click.command(short_help="Check that the files of a version are there.")
@click.argument("datasets", nargs=-1, metavar="[DATASET]...")
@server_options
@output_options
def fsck(datasets: tuple[str, ...], server: Server, output: Output) -> None:
    """Check that every file of the newest versions is where the manifest says, and as long as it says.

    It looks at files from where it runs, and does not read them. What a full check will add: checksums, rows, and files
    that no manifest lists.
    """
    with server.client() as client:
        names = datasets or tuple(item["dataset"] for item in client.datasets())
        problems = []
        checked = 0
        for name in names:
            for item in client.manifest(name):
                checked += 1
                if (problem := _problem(item)) is not None:
                    problems.append({"dataset": name, "uri": item["uri"], "problem": problem})
    lines = [f"{each['dataset']}: {each['uri']} {each['problem']}" for each in problems]
    summary = f"{checked} files of {len(names)} datasets looked at, {len(problems)} problems"
    output.document({"files": checked, "datasets": len(names), "problems": problems}, [*lines, summary])
    if problems:
        raise CommandFailedError("files are missing or damaged: restore them from a backup, at the same place")


def _problem(item: dict[str, Any]) -> str | None:
    try:
        size = Path(_local_path(item)).stat().st_size
    except OSError as exc:
        return f"cannot be looked at: {exc.strerror}"
    return None if size == item["bytes"] else f"has {size} bytes, not {item['bytes']}"


def _local_path(item: dict[str, Any]) -> str:
    parts = urlsplit(item["uri"] or "")
    if parts.scheme != "file":
        raise CommandFailedError(f"the file {item['uri'] or item['id']} is no local file; use timestore sql instead")
    return unquote(parts.path)
