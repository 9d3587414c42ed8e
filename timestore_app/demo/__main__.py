"""``python -m timestore_app.demo``, which is ``make demo``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click
from rich.console import Console

from timestore.errors import TimestoreError
from timestore_app.demo.read_back import ReadBackError
from timestore_app.demo.server_process import ServerFailedError
from timestore_app.demo.source import SourceMissingError
from timestore_app.demo.story import DemoFailedError, tell

_FAILURES = (DemoFailedError, ReadBackError, ServerFailedError, SourceMissingError, TimestoreError, OSError)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data-dir", type=click.Path(path_type=Path), default=".timestore-demo", show_default=True)
@click.option("--storage-url", default=None, help="Where data files go; default: into the data directory.")
def main(data_dir: Path, storage_url: str | None) -> None:
    """Start a server, send it a year of flights and weather, read everything back and compare.

    Running it again on the same directory adds nothing.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the server must not outlive us
    try:
        tell(Console(highlight=False), data_dir=data_dir, storage_url=storage_url)
    except _FAILURES as exc:
        click.echo(f"demo: {exc}", err=True)
        sys.exit(1)


main()
