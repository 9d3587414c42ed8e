"""``timestore tls``: a certificate to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.output import Output, output_options
from timestore_app.self_signed import create_self_signed

DEFAULT_HOSTS = ("localhost", "127.0.0.1", "::1")


@click.group(name="tls", short_help="Make a certificate.")
def tls() -> None:
    """Make a certificate for servers that no certificate authority knows."""


@tls.command(name="create-self-signed", short_help="Make a self-signed certificate and its key.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default="tls")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name or address that clients connect to; repeatable. Always in it: localhost, 127.0.0.1, ::1.",
)
@click.option(
    "--days", type=click.IntRange(min=1, max=3650), default=365, show_default=True, help="How long it is good."
)
@output_options
def create_command(directory: Path, hosts: tuple[str, ...], days: int, output: Output) -> None:
    """Write cert.pem and key.pem into DIRECTORY (default: tls), which must not have them yet.

    Start the server with --tls-cert and --tls-key; give clients cert.pem, which alone they then trust, by
    --tls-root-certs. It is no secret; key.pem is, and stays here.
    """
    cert, key = directory / "cert.pem", directory / "key.pem"
    if there := [path for path in (cert, key) if path.exists()]:
        raise CommandFailedError(f"{there[0]} is there already; name another directory, or remove it first")
    names = list(dict.fromkeys((*hosts, *DEFAULT_HOSTS)))
    directory.mkdir(parents=True, exist_ok=True)
    create_self_signed(cert=cert, key=key, hosts=names, days=days)
    output.document(
        {"certificate": str(cert), "key": str(key), "hosts": names, "days": days},
        [f"{cert} and {key} are good for {', '.join(names)}, for {days} days"],
    )
