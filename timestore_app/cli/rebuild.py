"""``timestore rebuild``: a catalog made anew from the data files, or an older one brought up to its storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from catalog.connections import Connections
from catalog.inventory import Inventory
from catalog.ledger import Ledger
from catalog.migrate import check_no_catalog, check_stopped, migrate
from catalog.storage_targets import TargetRegister
from readers.file_reader import FileReader
from storage.horizon import read_horizon, write_horizon
from storage.marker import check_root, claim_root_anew, find_root
from storage.opening import open_store
from storage.store import Store
from storage.targets import Targets, about_target
from timestore import __version__
from timestore.storage_target import DEFAULT_STORAGE, StorageTarget
from timestore_app.cli.direct import READER_BYTES, local_files, open_catalog, stopped, storage_of, storage_options
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.output import Output, output_options
from timestore_app.cli.storage_options import added_storage
from timestore_app.settings import Settings
from writers.rebuild import CANNOT_TELL, Published, Rebuild, Rebuilt
from writers.survey import survey


@click.command(short_help="Make a catalog anew from the data files.")
@click.option("--adopt", is_flag=True, help="Take into the catalog there is, a restored one, what it does not know.")
@added_storage
@storage_options
@output_options
def rebuild(settings: Settings, output: Output, adopt: bool, added: list[StorageTarget]) -> None:
    """Make a new catalog from the data files alone, or with --adopt bring an older one up to its storage.

    No server may run, on this catalog or on this storage. Every file is read whole. What cannot be taken in is named,
    and its files stay where they are. Files are looked for at --storage-url and in the targets of --storage, with
    --adopt also in those that the catalog knows.
    """
    default = storage_of(settings)
    if not added and next(default.list(), None) is None:
        raise CommandFailedError(f"there are no files at {default.url('')}; check --data-dir and --storage-url")
    with stopped(settings) as dsn:
        check = check_stopped if adopt else check_no_catalog
        check(dsn, settings.catalog_schema)
        migrate(dsn, settings.catalog_schema)
        with open_catalog(dsn, settings) as connections, _lease(connections, settings) as ledger:
            work = _Work(connections=connections, ledger=ledger, default=default, added=added)
            rebuilt = work.adopt() if adopt else work.make_anew()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A rebuild of one catalog."""

    connections: Connections
    ledger: Ledger
    default: Store
    added: Sequence[StorageTarget]  # that the command line names

    def make_anew(self) -> Rebuilt:
        """Fill a new catalog; storage becomes its own only when it is complete: until then no server commits to it."""
        targets = Targets(default=self.default, added=lambda: self.added)
        rebuilt = self._publish(targets)
        identity, register = self.ledger.identity(), TargetRegister(connections=self.connections)
        ours = {"catalog_id": identity.catalog_id, "incarnation": identity.incarnation}
        for target in self.added:
            register.add(target, claim_root_anew(targets.of(target.name), **ours), horizon=0)
        self.ledger.settle_storage_root(claim_root_anew(self.default, **ours))
        self._end_fences(targets)
        return rebuilt

    def adopt(self) -> Rebuilt:
        """Bring a catalog up to its storage; the horizons come last: until then no server commits to it."""
        register = TargetRegister(connections=self.connections)
        targets = Targets(default=self.default, added=register.targets)
        for target in self.added:
            self._remember(target, register)
        for name in targets.names():
            self._check(name, targets)
        self.ledger.forget_the_time_since()
        rebuilt = self._publish(targets)
        self._end_fences(targets)
        return rebuilt

    def _remember(self, target: StorageTarget, register: TargetRegister) -> None:
        """Take a target into the catalog that it does not know; it must be this catalog's."""
        if target in register.targets():
            return  # from a run that ended half-way
        identity = self.ledger.identity()
        root_id = find_root(
            open_store(target.url, target.options), catalog_id=identity.catalog_id, incarnation=identity.incarnation
        )
        register.add(target, root_id, horizon=0)

    def _check(self, name: str, targets: Targets) -> None:
        """See to it that a target is there, and this catalog's: what is not looked at would be forgotten."""
        identity = self.ledger.identity(name)
        with about_target(name):
            check_root(
                targets.of(name),
                catalog_id=identity.catalog_id,
                incarnation=identity.incarnation,
                settled=identity.storage_root,
            )

    def _publish(self, targets: Targets) -> Rebuilt:
        reader = FileReader(memory_limit_bytes=READER_BYTES)
        inventories = [Inventory(connections=self.connections, storage=name) for name in targets.names()]
        with local_files(targets) as files:
            with _progress("files looked at") as advance:
                found = survey(
                    targets=targets, inventories=inventories, files=files, reader=reader, on_looked_at=advance
                )
            with _progress("appends read", total=len(found.appends)) as advance:
                return Rebuild(ledger=self.ledger, files=files, reader=reader, on_published=advance).publish(found)

    def _end_fences(self, targets: Targets) -> None:
        for name in targets.names():
            store = targets.of(name)
            write_horizon(store, self.ledger.overtake_horizon(read_horizon(store), storage=name))


def _show(rebuilt: Rebuilt, output: Output) -> None:
    lines = [_line(each) for each in rebuilt.datasets]
    for left in rebuilt.left:
        append = f" append {left.idempotency_key!r} of {left.dataset}" if left.idempotency_key else ""
        lines.append(f"left alone ({left.reason}){append}: {left.why}")
        where = "" if left.storage == DEFAULT_STORAGE else f"{left.storage}: "
        lines += [f"  {where}{path}" for path in left.paths]
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
