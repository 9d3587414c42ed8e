"""``timestore rebuild``: a catalog made anew from the data files, or an older one brought up to its storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from catalog.connections import Connections
from catalog.inventory import Inventory
from catalog.ledger import Ledger
from catalog.migrate import check_no_catalog, check_stopped, migrate
from readers.file_reader import FileReader
from storage.horizon import read_horizon, write_horizon
from storage.marker import check_root, claim_root_anew
from storage.store import Store
from timestore import __version__
from timestore_app.cli.direct import READER_BYTES, open_catalog, stopped, storage_of, storage_options
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.output import Output, output_options
from timestore_app.settings import Settings
from writers.rebuild import CANNOT_TELL, Published, Rebuild, Rebuilt
from writers.survey import survey


@click.command(short_help="Make a catalog anew from the data files.")
@click.option("--adopt", is_flag=True, help="Take into the catalog there is, a restored one, what it does not know.")
@storage_options
@output_options
def rebuild(settings: Settings, output: Output, adopt: bool) -> None:
    """Make a new catalog from the data files alone, or with --adopt bring an older one up to its storage.

    No server may run, on this catalog or on this storage. Every file is read whole. What cannot be taken in is named,
    and its files stay where they are.
    """
    store = storage_of(settings)
    if next(store.list(), None) is None:
        raise CommandFailedError(f"there are no files at {store.url('')}; check --data-dir and --storage-url")
    with stopped(settings) as dsn:
        check = check_stopped if adopt else check_no_catalog
        check(dsn, settings.catalog_schema)
        migrate(dsn, settings.catalog_schema)
        with open_catalog(dsn, settings) as connections, _lease(connections, settings) as ledger:
            rebuilt = (_adopt if adopt else _make_anew)(connections, ledger, store)
    _show(rebuilt, output)


@contextmanager
def _lease(connections: Connections, settings: Settings) -> Iterator[Ledger]:
    """Write like a server, which others then see."""
    ledger = Ledger(connections=connections, run_id=uuid4())
    ledger.start_lease(address="timestore rebuild", software_version=__version__, lease_s=settings.lease_s)
    try:
        yield ledger
    finally:
        ledger.end_lease()


def _make_anew(connections: Connections, ledger: Ledger, store: Store) -> Rebuilt:
    """Fill a new catalog; the storage becomes its own only when it is complete: until then no server commits to it."""
    rebuilt = _publish(connections, ledger, store)
    identity = ledger.identity()
    ledger.settle_storage_root(claim_root_anew(store, catalog_id=identity.catalog_id, incarnation=identity.incarnation))
    _end_fence(ledger, store)
    return rebuilt


def _adopt(connections: Connections, ledger: Ledger, store: Store) -> Rebuilt:
    """Bring a catalog up to its storage; the horizon comes last: until then no server commits to it."""
    identity = ledger.identity()
    check_root(store, catalog_id=identity.catalog_id, incarnation=identity.incarnation, settled=identity.storage_root)
    ledger.forget_the_time_since()
    rebuilt = _publish(connections, ledger, store)
    _end_fence(ledger, store)
    return rebuilt


def _publish(connections: Connections, ledger: Ledger, store: Store) -> Rebuilt:
    reader = FileReader(memory_limit_bytes=READER_BYTES)
    with _progress("files looked at") as advance:
        found = survey(store=store, inventory=Inventory(connections=connections), reader=reader, on_looked_at=advance)
    with _progress("appends read", total=len(found.appends)) as advance:
        return Rebuild(ledger=ledger, store=store, reader=reader, on_published=advance).publish(found)


def _end_fence(ledger: Ledger, store: Store) -> None:
    write_horizon(store, ledger.overtake_horizon(read_horizon(store)))


def _show(rebuilt: Rebuilt, output: Output) -> None:
    lines = [_line(each) for each in rebuilt.datasets]
    for left in rebuilt.left:
        append = f" append {left.idempotency_key!r} of {left.dataset}" if left.idempotency_key else ""
        lines.append(f"left alone ({left.reason}){append}: {left.why}")
        lines += [f"  {path}" for path in left.paths]
    lines += ["What files cannot tell:", *(f"- {what}" for what in CANNOT_TELL)]
    lines.append("The server can be started. timestore fsck says which files the catalog misses, if any.")
    fields: dict[str, object] = {
        "datasets": [each.as_json() for each in rebuilt.datasets],
        "left": [each.as_json() for each in rebuilt.left],
        "cannot_tell": list(CANNOT_TELL),
    }
    output.document(fields, lines)


def _line(published: Published) -> str:
    taken = f"{published.appends} appends, {published.files} files, {published.rows:,} rows taken in"
    new = f", a new dataset with the window {published.window}" if published.is_new else ""
    return f"{published.dataset}: {taken}; version {published.version}{new}"


@contextmanager
def _progress(what: str, total: int | None = None) -> Iterator[Callable[[], object]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
