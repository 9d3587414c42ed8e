"""``timestore storage``: the places that data files go to."""

from __future__ import annotations

import click

from timestore_app.cli import EXIT_FAILED
from timestore_app.cli.options import Server, server_options
from timestore_app.cli.output import Output, output_options
from timestore_app.cli.storage_options import option_option, storage_target


@click.group(name="storage", short_help="Add, list and test the places that data files go to.")
def storage() -> None:
    """Add, list and test storage targets: the places that data files go to.

    There is always 'default', which is what the server's --storage-url says. A dataset is created in one target (create
    --storage NAME, put --storage NAME) and stays there. Credentials are never kept in the catalog: each server has its
    own, by the usual ways of the store's tools.
    """


@storage.command(short_help="Add a place that datasets can be created in.")
@click.argument("name")
@click.argument("place", metavar="URL")
@option_option
@server_options
@output_options
def add(name: str, place: str, options: dict[str, str], server: Server, output: Output) -> None:
    """Make the empty place at URL the catalog's, as storage NAME, after it was tested from the server.

    URL is like s3://bucket/prefix, or the whole path of a directory that every server finds there. Name and place
    belong together for ever. Doing it again changes nothing.
    """
    target = storage_target(name, place, options)
    with server.client() as client:
        fields = client.add_storage(target.name, target.url, options=options)
    what = "added" if fields["added"] else "was there already"
    output.document(fields, [f"{name} {what}: timestore create --storage {name} puts a dataset there"])


@storage.command(name="list", short_help="List the storage targets.")
@server_options
@output_options
def list_command(server: Server, output: Output) -> None:
    """List the storage targets, how much is in each, and whether the server can use it now."""
    with server.client() as client:
        output.table(client.list_storage(), ["storage", "url", "options", "datasets", "bytes", "state", "reason"])


@storage.command(short_help="Try what a place lets the server do.")
@click.argument("place", metavar="NAME|URL")
@option_option
@server_options
@output_options
@click.pass_context
def test(ctx: click.Context, place: str, options: dict[str, str], server: Server, output: Output) -> None:
    """Write, read back, list, create once more and delete a small object, from the server, and say what works.

    A storage's NAME, or the URL of a place that is none yet. Exit code 1 if something does not work.
    """
    with server.client() as client:
        fields = client.test_storage(place, options=options)
    lines = [f"{'ok' if step['ok'] else 'FAILED':<7} {step['step']}" for step in fields["steps"]]
    lines = [
        f"{line}: {step['reason']}" if step["reason"] else line
        for line, step in zip(lines, fields["steps"], strict=True)
    ]
    output.document(fields, lines)
    if not fields["ok"]:
        ctx.exit(EXIT_FAILED)
