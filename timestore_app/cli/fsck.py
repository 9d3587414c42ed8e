"""``timestore fsck``: catalog and storage compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from catalog.connections import Connections
from catalog.inventory import Inventory
from catalog.migrate import check_migrated
from readers.file_reader import FileReader
from readers.fsck import Finding, Fsck
from storage.marker import check_root
from storage.store import Store
from timestore_app.cli.direct import READER_BYTES, open_catalog, running_or_not, storage_of, storage_options
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.output import Output, output_options
from timestore_app.settings import Settings


@click.command(short_help="Compare the catalog with the storage.")
@click.option("--deep", is_flag=True, help="Read every file: checksum, rows, and what it says about itself.")
@storage_options
@output_options
def fsck(settings: Settings, output: Output, deep: bool) -> None:
    """Compare the catalog with the storage, both ways, and change neither. Servers may run meanwhile.

    Every file of a version that can still be read must be in storage as the catalog says, and every object in storage
    must be known to the catalog. Exit code 1 if something is wrong.
    """
    with running_or_not(settings) as dsn:
        check_migrated(dsn, settings.catalog_schema)
        with open_catalog(dsn, settings) as connections:
            problems = _compare(connections, storage_of(settings), output, deep=deep)
    if problems:
        raise CommandFailedError(
            f"{problems} problems: restore missing and damaged files from a backup, at the same place; the "
            "reference of the command line says of each kind what to do"
        )


def _compare(connections: Connections, store: Store, output: Output, *, deep: bool) -> int:
    """Show all findings, and return how many of them are problems."""
    inventory = Inventory(connections=connections)
    identity = inventory.identity()
    check_root(store, catalog_id=identity.catalog_id, incarnation=identity.incarnation, settled=identity.storage_root)
    findings: list[Finding] = []
    with _progress(inventory.count()) as advance:
        comparison = Fsck(
            inventory=inventory,
            store=store,
            reader=FileReader(memory_limit_bytes=READER_BYTES) if deep else None,
            on_looked_at=advance,
        )
        for finding in comparison.run():
            findings.append(finding)
            if not output.as_json:
                click.echo(f"{finding.kind:<13} {finding.path} {finding.found}")
    problems = sum(finding.kind.is_problem for finding in findings)
    fields: dict[str, object] = {
        "objects": comparison.objects,
        "files": comparison.files,
        "deep": deep,
        "problems": problems,
        "findings": [finding.as_json() for finding in findings],
    }
    how = "read" if deep else "looked at"
    counts = f"{comparison.files} files {how}, {comparison.objects} objects in storage, {problems} problems"
    output.document(fields, [counts])
    return problems


@contextmanager
def _progress(files: int) -> Iterator[Callable[[], object]]:
    """Show on a terminal how far it is: each file is looked at from both sides."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("fsck", total=2 * files)
        yield lambda: progress.advance(task)
