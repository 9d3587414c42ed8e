"""``timestore catalog``: the catalog as one file, to move it to another Postgres."""

from __future__ import annotations

from pathlib import Path

import click

from catalog.transfer import CatalogArchive, export_catalog, import_catalog
from timestore_app.cli.direct import catalog_options, stopped
from timestore_app.cli.output import Output, output_options
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


def _show(facts: CatalogArchive, what: str, output: Output) -> None:
    lines = [*(f"{name:<20} {rows:>12,} rows" for name, rows in facts.tables.items()), f"{what} {facts.catalog_id}"]
    output.document(facts.as_json(), lines)
