"""``timestore catalog``: the catalog as one file, to move it to another Postgres; and where its storage has moved."""

from __future__ import annotations

from pathlib import Path

import click

from catalog.connections import Connections
from catalog.inventory import Inventory
from catalog.migrate import check_migrated, check_stopped
from catalog.storage_targets import TargetRegister
from catalog.transfer import CatalogArchive, export_catalog, import_catalog
from storage.marker import check_root
from storage.opening import open_store
from storage.targets import about_target
from timestore.storage_target import StorageTarget
from timestore_app.cli.direct import catalog_options, open_catalog, stopped
from timestore_app.cli.output import Output, output_options
from timestore_app.cli.storage_options import option_option, storage_target
from timestore_app.settings import Settings


@click.group(name="catalog", short_help="Move the catalog to another Postgres.")
def catalog() -> None:
    """Move the catalog to another Postgres: a newer major version, another host, out of the embedded one.

    Stop all servers on it first. Data files stay where they are; the catalog alone says what is in them.
    """


@catalog.command(name="export", short_help="Write the catalog to a file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@catalog_options
@output_options
def export_command(file: Path, settings: Settings, output: Output) -> None:
    """Write everything that the catalog says to FILE, a zip archive, which must not be there yet."""
    with stopped(settings) as dsn:
        facts = export_catalog(dsn, settings.catalog_schema, file)
    _show(facts, f"{file} has the catalog", output)


@catalog.command(name="import", short_help="Fill a new catalog from a file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@catalog_options
@output_options
def import_command(file: Path, settings: Settings, output: Output) -> None:
    """Fill a new catalog from FILE, all or nothing, and bring it up to date.

    There must be no catalog yet: an empty database or schema, or a data directory without its folder postgres.
    """
    with stopped(settings) as dsn:
        facts = import_catalog(dsn, settings.catalog_schema, file)
    _show(facts, "the server can be started, with the same storage as before, on the catalog", output)


@catalog.command(name="change-storage", short_help="Say where a storage target has moved to.")
@click.argument("name")
@click.argument("place", metavar="URL")
@option_option
@catalog_options
@output_options
def change_storage(name: str, place: str, options: dict[str, str], settings: Settings, output: Output) -> None:
    """Say that storage NAME is at URL now, with just these options. No server may run on the catalog.

    Its files must have been moved there before, all of them, with the marker timestore.json. Use it after a restore to
    another place, and to change options.
    """
    target = storage_target(name, place, options)
    with stopped(settings) as dsn:
        check_stopped(dsn, settings.catalog_schema)
        check_migrated(dsn, settings.catalog_schema)
        with open_catalog(dsn, settings) as connections:
            _check_marker(target, connections)
            TargetRegister(connections=connections).change(target)
    fields: dict[str, object] = {"storage": name, "url": target.url, "options": options}
    output.document(fields, [f"{name} is at {target.url} for the servers that are started now"])


def _check_marker(target: StorageTarget, connections: Connections) -> None:
    """See to it that the target's own root is there; raises ``fenced`` if it is another or none."""
    identity = Inventory(connections=connections, storage=target.name).identity()
    if identity.storage_root is not None:
        with about_target(target.name):
            check_root(
                open_store(target.url, target.options),
                catalog_id=identity.catalog_id,
                incarnation=identity.incarnation,
                settled=identity.storage_root,
            )


def _show(facts: CatalogArchive, what: str, output: Output) -> None:
    lines = [*(f"{name:<20} {rows:>12,} rows" for name, rows in facts.tables.items()), f"{what} {facts.catalog_id}"]
    output.document(facts.as_json(), lines)
