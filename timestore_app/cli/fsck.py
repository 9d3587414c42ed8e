"""``timestore fsck``: catalog and storage compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from catalog.connections import Connections
from catalog.inventory import Inventory
from catalog.migrate import check_migrated
from readers.file_reader import FileReader
from readers.fsck import Finding, FindingKind, Fsck
from storage.local_files import LocalFiles
from storage.marker import check_root
from storage.targets import Targets
from timestore.errors import TimestoreError
from timestore.storage_target import DEFAULT_STORAGE
from timestore_app.cli.direct import (
    READER_BYTES,
    local_files,
    open_catalog,
    running_or_not,
    storage_options,
    targets_of,
)
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.output import Output, output_options
from timestore_app.settings import Settings

_OF_THE_TARGET = ("storage_unavailable", "unsupported", "fenced")


@dataclass(slots=True, kw_only=True)
class _Comparison:
    """What was found so far, over all storage targets."""

    output: Output
    advance: Callable[[], object]
    objects: int = 0
    files: int = 0
    problems: int = 0
    findings: list[dict[str, object]] = field(default_factory=list)

    def add(self, storage: str, finding: Finding) -> None:
        """Take a finding, and show it to people at once."""
        self.findings.append(finding.as_json() | {"storage": storage})
        self.problems += finding.kind.is_problem
        if not self.output.as_json:
            where = "" if storage == DEFAULT_STORAGE else f"{storage}: "
            click.echo(f"{finding.kind:<13} {where}{finding.path} {finding.found}")


@click.command(short_help="Compare the catalog with the storage.")
@click.option("--deep", is_flag=True, help="Read every file: checksum, rows, and what it says about itself.")
@storage_options
@output_options
def fsck(settings: Settings, output: Output, deep: bool) -> None:
    """Compare the catalog with the storage, both ways, and change neither. Servers may run meanwhile.

    Every file of a version that can still be read must be in storage as the catalog says, and every object in storage
    must be known to the catalog. All storage targets are compared; one that cannot be reached is a problem, and keeps
    none of the others from it. Exit code 1 if something is wrong.
    """
    with running_or_not(settings) as dsn:
        check_migrated(dsn, settings.catalog_schema)
        with open_catalog(dsn, settings) as connections:
            problems = _compare(connections, targets_of(connections, settings), output, deep=deep)
    if problems:
        raise CommandFailedError(
            f"{problems} problems: restore missing and damaged files from a backup, at the same place; the "
            "reference of the command line says of each kind what to do"
        )


def _compare(connections: Connections, targets: Targets, output: Output, *, deep: bool) -> int:
    """Show all findings, and return how many of them are problems."""
    inventories = [Inventory(connections=connections, storage=name) for name in targets.names()]
    reader = FileReader(memory_limit_bytes=READER_BYTES) if deep else None
    with local_files(targets) as files, _progress(sum(inventory.count() for inventory in inventories)) as advance:
        compared = _Comparison(output=output, advance=advance)
        for inventory in inventories:
            _compare_target(inventory, targets, files, reader, compared)
    fields: dict[str, object] = {
        "objects": compared.objects,
        "files": compared.files,
        "deep": deep,
        "problems": compared.problems,
        "findings": compared.findings,
    }
    how = "read" if deep else "looked at"
    counts = f"{compared.files} files {how}, {compared.objects} objects in storage, {compared.problems} problems"
    output.document(fields, [counts])
    return compared.problems


def _compare_target(
    inventory: Inventory, targets: Targets, files: LocalFiles, reader: FileReader | None, compared: _Comparison
) -> None:
    identity, storage = inventory.identity(), inventory.storage
    try:
        store = targets.of(storage)
        check_root(
            store, catalog_id=identity.catalog_id, incarnation=identity.incarnation, settled=identity.storage_root
        )
        fsck = Fsck(inventory=inventory, store=store, files=files, reader=reader, on_looked_at=compared.advance)
        for finding in fsck.run():
            compared.add(storage, finding)
    except TimestoreError as failure:
        if storage == DEFAULT_STORAGE or failure.kind not in _OF_THE_TARGET:
            raise
        compared.add(storage, Finding(kind=FindingKind.UNREACHABLE, path="", found=failure.message))
        return
    compared.objects += fsck.objects
    compared.files += fsck.files


@contextmanager
def _progress(files: int) -> Iterator[Callable[[], object]]:
    """Show on a terminal how far it is: each file is looked at from both sides."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("fsck", total=2 * files)
        yield lambda: progress.advance(task)
