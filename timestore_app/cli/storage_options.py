"""Storage targets on the command line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from timestore.errors import TimestoreError
from timestore.storage_target import StorageTarget
from timestore_app.cli.options import Pairs

F = TypeVar("F", bound=Callable[..., Any])


def option_option(command: F) -> F:
    """Give a command ``--option``, once for each; it gets them as ``options``."""
    return click.option(
        "--option",
        "options",
        metavar="NAME=VALUE",
        multiple=True,
        callback=Pairs(what="NAME=VALUE"),
        help="An option of the store's driver, never a secret; once for each.",
    )(command)


def storage_target(name: str, url: str, options: dict[str, str]) -> StorageTarget:
    """Check what the command line says of a target before anybody is asked."""
    try:
        return StorageTarget.parse(name=name, url=url, options=options)
    except TimestoreError as exc:
        raise click.UsageError(exc.message) from exc


def added_storage(command: F) -> F:
    """Give a command ``--storage`` and ``--option``, for targets that its catalog does not know; it gets ``added``."""

    @click.option(
        "--storage",
        "places",
        metavar="NAME=URL",
        multiple=True,
        callback=Pairs(what="NAME=URL"),
        help="A storage target beside the default one that the catalog does not know (any more); once for each.",
    )
    @click.option(
        "--option",
        "options",
        metavar="STORAGE.NAME=VALUE",
        multiple=True,
        callback=Pairs(what="STORAGE.NAME=VALUE"),
        help="An option of the driver of one of these, never a secret; once for each.",
    )
    @functools.wraps(command)
    def with_targets(*args: Any, places: dict[str, str], options: dict[str, str], **kwargs: Any) -> Any:
        return command(*args, added=_storage_targets(places, options), **kwargs)

    return with_targets  # type: ignore[return-value]  # click takes any callable


def _storage_targets(places: dict[str, str], options: dict[str, str]) -> list[StorageTarget]:
    options_of: dict[str, dict[str, str]] = {name: {} for name in places}
    for text, value in options.items():
        storage, _, option = text.partition(".")
        if storage not in places:
            raise click.UsageError(f"--option {text} is of no --storage; write --option STORAGE.NAME=VALUE")
        options_of[storage][option] = value
    return [storage_target(name, url, options_of[name]) for name, url in places.items()]
