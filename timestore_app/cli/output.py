"""What commands print: for people, or as JSON for programs; times in the zone that was asked for."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from timestore_app.cli.options import Zone
from timestore_app.units import format_size

UNLIMITED_WIDTH = 1_000_000
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z\Z", re.ASCII)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Prints results to standard output."""

    as_json: bool
    zone: tzinfo

    def document(self, fields: dict[str, Any], lines: Iterable[str] | None = None) -> None:
        """Print one object: as one JSON document, or as the lines for people (else one line for each field)."""
        fields = in_zone(fields, self.zone)
        if self.as_json:
            click.echo(json.dumps(fields, ensure_ascii=False))
            return
        for line in lines if lines is not None else field_lines(fields):
            click.echo(line)

    def table(self, items: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
        """Print objects: all of each as a JSON line, or some columns of each as a table."""
        shown = (in_zone(item, self.zone) for item in items)
        if self.as_json:
            for item in shown:
                click.echo(json.dumps(item, ensure_ascii=False))
            return
        print_table([[_cell(name, item.get(name)) for name in columns] for item in shown], columns)


def output_options(command: F) -> F:
    """Give a command ``--json`` and ``--tz``; it gets an ``Output`` as ``output``."""

    @click.option("--json", "as_json", is_flag=True, help="For programs: one JSON document, or a line for each item.")
    @click.option("--tz", type=Zone(), default="UTC", show_default=True, help="Show times in this zone.")
    @functools.wraps(command)
    def with_output(*args: Any, as_json: bool, tz: tzinfo, **kwargs: Any) -> Any:
        return command(*args, output=Output(as_json=as_json, zone=tz), **kwargs)

    return with_output  # type: ignore[return-value]  # click takes any callable


def print_table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    """Print a table for people: as wide as it must be where nobody looks at a terminal."""
    table = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        width = Measurement.get(console, console.options.update(width=UNLIMITED_WIDTH), table).maximum
        console = Console(highlight=False, width=width, no_color=True)
    console.print(table)


def in_zone(value: Any, zone: tzinfo) -> Any:
    """Respell every RFC 3339 time in UTC within a JSON value."""
    if zone is UTC or str(zone) == "UTC":
        return value
    match value:
        case dict():
            return {name: in_zone(item, zone) for name, item in value.items()}
        case list():
            return [in_zone(item, zone) for item in value]
        case str() if found := _RFC_3339.match(value):
            moment = datetime.fromisoformat(found[1] + "+00:00").astimezone(zone).isoformat()
            return f"{moment[:19]}{found[2] or ''}{moment[19:]}"
    return value


def field_lines(fields: dict[str, Any]) -> list[str]:
    """Spell an object for people, one line for each field."""
    width = max(len(name) for name in fields)
    return [f"{name:<{width}}  {_cell(name, value)}" for name, value in fields.items()]


def _cell(name: str, value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("bytes"):
            return format_size(value)
        case int():
            return f"{value:,}" if name in {"rows", "files_total", "slices", "partitions"} else str(value)
        case dict():
            return " ".join(f"{key}={item}" for key, item in value.items()) or "-"
        case list() if all(isinstance(item, str) for item in value):
            return (" - " if name == "window" else ", ").join(value) or "-"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
