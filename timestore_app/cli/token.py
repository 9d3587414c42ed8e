"""``timestore token``: make, list and revoke tokens, in the catalog itself, while servers run or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from access.grants import Grants
from access.token_text import TokenText
from access.verifiers import CACHE_S
from catalog.migrate import check_migrated, has_schema_catalog, migrate
from catalog.tokens import NewToken, StoredToken, Tokens
from timestore.errors import TimestoreError
from timestore.windows import format_instant
from timestore_app.cli.direct import catalog_options, open_catalog, running_or_not
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.options import Duration, Size
from timestore_app.cli.output import Output, output_options
from timestore_app.settings import Settings

MAX_PRINCIPAL_LENGTH = 100
_COLUMNS = ["token_id", "principal", "grants", "created_at", "expires_at", "state"]


@click.group(name="token", short_help="Make, list and revoke tokens.")
def token() -> None:
    """Make, list and revoke the tokens with which clients prove who they are.

    They are kept in the catalog, as hashes: all servers on it share them. Works while servers run, and before the first
    one is started.
    """


@token.command(short_help="Make a token and print it, once.")
@click.option(
    "--grant",
    "grants",
    multiple=True,
    required=True,
    metavar="PERMISSION:GLOB",
    help="read, append, create or admin, on names in which * stands for anything: read,append:sensors_*. Repeatable.",
)
@click.option("--name", help="Whom it stands for, in logs and audits; default: the token's id.")
@click.option("--expires", type=Duration(), help="How long it is good, such as 90d; default: until it is revoked.")
@click.option("--max-running-puts", type=click.IntRange(min=1), help="Puts it may run at once on each server.")
@click.option("--bytes-per-second", type=Size(), help="Bytes that its puts may send in a second, such as 10MiB.")
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this new file, and not here."
)
@catalog_options
@output_options
def create(
    grants: tuple[str, ...],
    name: str | None,
    expires: float | None,
    max_running_puts: int | None,
    bytes_per_second: int | None,
    token_file: Path | None,
    settings: Settings,
    output: Output,
) -> None:
    """Make a token and print it. It cannot be shown again: the catalog keeps only a hash.

    Appending to a dataset that does not exist yet needs create as well as append. admin includes all others.
    """
    made = TokenText.new()
    new = NewToken(
        token_id=made.token_id,
        secret_hash=made.secret_hash,
        principal=_principal(name, made.token_id),
        grants=_grants(grants),
        max_running_puts=max_running_puts,
        bytes_per_s=bytes_per_second,
        lifetime=timedelta(seconds=expires) if expires is not None else None,
    )
    if token_file is not None and token_file.exists():
        raise CommandFailedError(f"{token_file} is there already; name a new file")
    with _tokens(settings, create=True) as tokens:
        stored = tokens.create(new)
    if token_file is not None:
        _write_secret(token_file, made.reveal())
        output.document(_item(stored) | {"token_file": str(token_file)})
    elif output.as_json:
        output.document(_item(stored) | {"token": made.reveal()})
    else:
        click.echo(made.reveal())


@token.command(name="list", short_help="List the tokens.")
@catalog_options
@output_options
def list_command(settings: Settings, output: Output) -> None:
    """List all tokens, without their secrets, also those that have expired or were revoked."""
    with _tokens(settings) as tokens:
        output.table([_item(stored) for stored in tokens.all()], _COLUMNS)


@token.command(short_help="Revoke a token for ever.")
@click.argument("token_id")
@catalog_options
@output_options
def revoke(token_id: str, settings: Settings, output: Output) -> None:
    """Revoke the token with an id, for ever. Servers that know it still believe it for five seconds at most."""
    with _tokens(settings) as tokens:
        if not tokens.revoke(token_id):
            raise CommandFailedError(f"there is no token {token_id[:40]!r}; timestore token list has their ids")
    output.document({"token_id": token_id, "revoked": True, "within_s": CACHE_S})


@contextmanager
def _tokens(settings: Settings, *, create: bool = False) -> Iterator[Tokens]:
    """Give the tokens of a catalog; with ``create``, of a new one if there is none."""
    with running_or_not(settings, may_be_new=create) as dsn:
        if create and not has_schema_catalog(dsn, settings.catalog_schema):
            migrate(dsn, settings.catalog_schema)
        check_migrated(dsn, settings.catalog_schema)
        with open_catalog(dsn, settings) as connections:
            yield Tokens(connections=connections)


def _principal(name: str | None, token_id: str) -> str:
    principal = name if name is not None else token_id
    if not 1 <= len(principal) <= MAX_PRINCIPAL_LENGTH or not principal.isprintable():
        raise click.BadParameter(f"it must have 1 to {MAX_PRINCIPAL_LENGTH} printable characters", param_hint="--name")
    return principal


def _grants(texts: tuple[str, ...]) -> list[str]:
    try:
        return Grants.parse(texts).as_texts()
    except TimestoreError as exc:
        raise click.BadParameter(exc.message, param_hint="--grant") from exc


def _item(stored: StoredToken) -> dict[str, Any]:
    return {
        "token_id": stored.token_id,
        "principal": f"token:{stored.principal}",
        "grants": list(stored.grants),
        "max_running_puts": stored.max_running_puts,
        "bytes_per_s": stored.bytes_per_s,
        "created_at": format_instant(stored.created_at),
        "expires_at": format_instant(stored.expires_at) if stored.expires_at else None,
        "revoked_at": format_instant(stored.revoked_at) if stored.revoked_at else None,
        "state": stored.state,
    }


def _write_secret(path: Path, secret: str) -> None:
    """Write a new file that nobody else may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{secret}\n")
