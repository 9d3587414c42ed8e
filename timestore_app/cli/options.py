"""Options that several commands have, and the kinds of values in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import stamina.instrumentation

from timestore.client import Client, connect
from timestore.errors import TimestoreError
from timestore.names import PartitionKey
from timestore.windows import parse_instant
from timestore_app.settings import client_variable
from timestore_app.units import parse_duration, parse_size

DEFAULT_URL = "grpc://127.0.0.1:8815"
DEFAULT_DEADLINE = "5s"

_FILE = click.Path(dir_okay=False)
_TLS_FILES = ("tls_root_certs", "tls_client_cert", "tls_client_key")

F = TypeVar("F", bound=Callable[..., Any])


class Size(click.ParamType[Any]):
    """Bytes, as 512MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_size(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Duration(click.ParamType[Any]):
    """Seconds, as 90s or 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else parse_duration(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Instant(click.ParamType[Any]):
    """RFC 3339 with an offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return value if isinstance(value, datetime) else parse_instant(value)
        except TimestoreError as exc:
            self.fail(exc.message, param, ctx)


class Zone(click.ParamType[Any]):
    """A time zone of the tz database."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tzinfo:
        try:
            return value if isinstance(value, tzinfo) else ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"{value!r} is no time zone like UTC or Europe/Paris", param, ctx)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Parses options like ``--key region=eu`` that are given once for each name."""

    what: str

    def __call__(self, ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
        pairs: dict[str, str] = {}
        for text in values:
            name, equals, value = text.partition("=")
            if not equals or not name or name in pairs:
                raise click.BadParameter(f"{text!r} must be {self.what}, each name once", ctx, param)
            pairs[name] = value
        return pairs


def key_of(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Parse and check the parts of a semantic key."""
    pairs = Pairs(what="NAME=VALUE")(ctx, param, values)
    try:
        return PartitionKey.parse(pairs).as_dict()
    except TimestoreError as exc:
        raise click.BadParameter(exc.message, ctx, param) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the server is, what to prove oneself with, and how long to go on trying."""

    url: str
    deadline_s: float
    token: str | None = field(default=None, repr=False)
    tls: Mapping[str, str | None] = field(default_factory=dict)  # files, as ``connect`` calls them

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Connect for the time of a ``with``."""
        stamina.instrumentation.set_on_retry_hooks([])  # what is retried is no line of a command's output
        try:
            connection = self.connect(self.url)
        except TimestoreError as exc:
            raise click.UsageError(exc.message) from exc
        with connection as client:
            yield client

    def connect(self, url: str) -> Client:
        """Connect to a server, with what this one would be shown."""
        return connect(
            url,
            token=self.token,
            tls_root_certs=self.tls.get("tls_root_certs"),
            tls_client_cert=self.tls.get("tls_client_cert"),
            tls_client_key=self.tls.get("tls_client_key"),
            deadline_s=self.deadline_s,
        )


def server_options(command: F) -> F:
    """Give a command the options that say which server, and who asks; it gets a ``Server`` as ``server``.

    A token never is an option's value, for others see what commands are given.
    """

    @click.option(
        "--url",
        metavar="URL",
        default=lambda: client_variable("TIMESTORE_URL") or DEFAULT_URL,
        show_default=DEFAULT_URL,
        help="The server; also by TIMESTORE_URL.",
    )
    @click.option(
        "--deadline",
        type=Duration(),
        default=DEFAULT_DEADLINE,
        show_default=True,
        help="How long to repeat what fails because the server is away or busy; 0 for not at all.",
    )
    @click.option("--token-file", type=_FILE, help="A file with the token; also by TIMESTORE_TOKEN_FILE.")
    @click.option("--tls-root-certs", type=_FILE, help="What to trust; also by TIMESTORE_TLS_ROOT_CERTS.")
    @click.option("--tls-client-cert", type=_FILE, help="A client certificate; also by TIMESTORE_TLS_CLIENT_CERT.")
    @click.option("--tls-client-key", type=_FILE, help="Its key; also by TIMESTORE_TLS_CLIENT_KEY.")
    @functools.wraps(command)
    def with_server(*args: Any, url: str, deadline: float, token_file: str | None, **kwargs: Any) -> Any:
        tls = {name: kwargs.pop(name) or client_variable(f"TIMESTORE_{name.upper()}") for name in _TLS_FILES}
        server = Server(url=url, deadline_s=deadline, token=_token(token_file), tls=tls)
        return command(*args, server=server, **kwargs)

    return with_server  # type: ignore[return-value]  # click takes any callable


def _token(file: str | None) -> str | None:
    """Return the token of ``--token-file``, TIMESTORE_TOKEN or TIMESTORE_TOKEN_FILE, in this order."""
    said = client_variable("TIMESTORE_TOKEN") if file is None else None
    path = file or client_variable("TIMESTORE_TOKEN_FILE")
    return said if said is not None or path is None else Path(path).read_text(encoding="utf-8").strip()


def version_options(command: F) -> F:
    """Give a command ``--version`` and ``--as-of``."""
    command = click.option("--as-of", type=Instant(), help="The version that was current at this time.")(command)
    return click.option("--version", type=click.IntRange(min=0), help="This version; default: the newest.")(command)


def selection_options(command: F) -> F:
    """Give a command ``--key``, ``--from`` and ``--to``."""
    command = click.option("--to", "end", type=Instant(), help="Before this time.")(command)
    command = click.option("--from", "start", type=Instant(), help="At this time or later.")(command)
    return key_option("Only where the key has this part; once for each.")(command)


def key_option(help_text: str) -> Callable[[F], F]:
    """Return the option ``--key``."""
    return click.option("--key", metavar="NAME=VALUE", multiple=True, callback=key_of, help=help_text)


def create_options(command: F) -> F:
    """Give a command the options with which a dataset is created; it gets those that are given as ``create``."""

    @click.option("--timestamp-column", help="The column that decides the window; default: the only one there is.")
    @click.option("--window", help="Length of a window: <n>m, <n>h, <n>d, week, month or year; default 1d.")
    @click.option("--order", type=click.Choice(["ordered", "sort", "any"]), help="Order of timestamps in a put.")
    @click.option("--evolution", type=click.Choice(["additive", "none"]), help="May the schema change?")
    @click.option("--min", "min_", type=Instant(), help="Refuse rows before this time.")
    @click.option("--max", "max_", type=Instant(), help="Refuse rows at or after this time.")
    @click.option("--future-tolerance", type=Duration(), help="Refuse rows that are further in the future.")
    @click.option("--max-rows-per-put", type=click.IntRange(min=1), help="Refuse puts of more rows.")
    @click.option("--max-bytes", type=Size(), help="Refuse puts once the data files take so much.")
    @click.option(
        "--retention", help="How long windows are kept after their end: <n>m, <n>h or <n>d; default: for ever."
    )
    @click.option("--storage", metavar="NAME", help="The storage that its files go to; default: the server's own.")
    @functools.wraps(command)
    def with_create(
        *args: Any,
        min_: datetime | None,
        max_: datetime | None,
        future_tolerance: float | None,
        timestamp_column: str | None,
        window: str | None,
        order: str | None,
        evolution: str | None,
        max_rows_per_put: int | None,
        max_bytes: int | None,
        retention: str | None,
        storage: str | None,
        **kwargs: Any,
    ) -> Any:
        said = {
            "timestamp_column": timestamp_column,
            "window": window,
            "order": order,
            "evolution": evolution,
            "min": min_.isoformat() if min_ else None,
            "max": max_.isoformat() if max_ else None,
            "future_tolerance_s": future_tolerance,
            "max_rows_per_put": max_rows_per_put,
            "max_bytes": max_bytes,
            "retention": retention,
            "storage": storage,
        }
        create = {name: value for name, value in said.items() if value is not None}
        return command(*args, create=create, **kwargs)

    return with_create  # type: ignore[return-value]  # click takes any callable
