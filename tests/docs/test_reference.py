"""The reference of client and command line has all there is, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import timestore
from timestore_app.cli import load
from timestore_app.cli.group import COMMANDS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def _sections(page: str) -> dict[str, str]:
    """The text below each heading of the second level."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _options(command: click.Command) -> Iterator[str]:
    """The options of a command and of those below it."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _options(below)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield from parameter.opts


def test_every_command_has_a_section() -> None:
    """The reference has each command of the tree, in its order, and no other."""
    documented = [title for title in _sections("cli.md") if title.startswith("timestore ")]

    assert documented == [f"timestore {name}" for name in COMMANDS]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "serve"])
def test_every_option_is_documented(name: str) -> None:
    """Each option of a command stands in its section, or among those that several commands share."""
    sections = _sections("cli.md")
    shared = sections["What all commands share"] + sections["timestore get"] + sections["timestore put"]
    known = re.findall(r"`(-[-a-z]+)", sections[f"timestore {name}"] + shared)

    assert set(_options(load(COMMANDS[name][0]))) <= set(known)


def test_no_option_is_invented() -> None:
    """The reference names no option that no command has."""
    real = {option for path, _ in COMMANDS.values() for option in _options(load(path))} | {"--help"}

    assert set(re.findall(r"(?<![\w-])(--[a-z][-a-z]+)", (REFERENCE / "cli.md").read_text(encoding="utf-8"))) <= real


def test_every_client_method_has_a_section() -> None:
    """Each public method of the client stands in the reference, with each of its parameters."""
    sections = _sections("client.md")
    public = {name for name in vars(timestore.Client) if not name.startswith("_")}

    assert public == set(sections) - {"Repeating", "asyncio"}


@pytest.mark.parametrize("name", sorted(name for name in vars(timestore.Client) if not name.startswith("_")))
def test_every_parameter_is_documented(name: str) -> None:
    """Each parameter of a method stands in its section, or in that of the method it is like."""
    annotations = timestore.Client.__dict__[name].__annotations__
    sections = _sections("client.md")
    text = sections[name] + sections[name.removesuffix("_batches")]

    for parameter in set(annotations) - {"return"}:
        assert parameter in text, parameter
