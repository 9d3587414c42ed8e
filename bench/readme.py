"""The README's table: who is how fast, and how durable, on which machine, on which day."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.bulk_rows import BulkRow, bulk_rows, shapes_of
from bench.contenders import TIMESTORE
from bench.results import Report

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"
NOTABLE_SHARE = 0.05  # of all cores: less is what every machine does beside


class MarkersMissingError(Exception):
    """The file has no place for the table."""


def write_table(path: Path, report: Report) -> None:
    """Replace what stands between the two markers; raises ``MarkersMissingError``."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise MarkersMissingError(f"{path} has no lines {BEGIN} and {END}, between which the table goes")
    path.write_text(f"{before}{BEGIN}\n{markdown(report)}\n{END}{after}", encoding="utf-8")


def save_table(folder: Path, report: Report) -> None:
    """Write the table beside a result, if there is bulk to put into it."""
    if shapes_of(report):
        (folder / "table.md").write_text(markdown(report) + "\n", encoding="utf-8")


def markdown(report: Report) -> str:
    """Write the bulk results of one stream into one window as Markdown."""
    shapes = shapes_of(report)
    cells = {(shape, row.case.contender): row for shape in shapes for row in _comparable(report, shape)}
    names = sorted({name for _, name in cells}, key=lambda name: _place(name, shapes, cells))
    lines = [
        _caption(report),
        "",
        f"| | {' | '.join(shapes)} | durable when the clock stops |",
        f"|---|{'---|' * len(shapes)}---|",
    ]
    for name in names:
        figures = " | ".join(_cell(cells.get((shape, name))) for shape in shapes)
        lines.append(f"| {name} | {figures} | {report.durability.get(name, '')} |")
    absent = {absence.contender: absence.reason for absence in report.absences if _never(absence.contender, cells)}
    lines += ["", *(f"- {name} is absent: {reason}" for name, reason in absent.items())] if absent else []
    return "\n".join(lines)


def _comparable(report: Report, shape: str) -> list[BulkRow]:
    """Take what had one stream, or none, into one window."""
    return [row for row in bulk_rows(report, shape) if {"1"} >= {row.case.labels.get(name, "1") for name in _LOAD}]


_LOAD = ("streams", "windows")


def _caption(report: Report) -> str:
    machine, versions = report.machine, report.versions
    return (
        f"Measured on {machine['date']}: {machine['cores']} cores of {machine['cpu']}, {machine['system']}, "
        f"{machine['file_system']}; DuckDB {versions['duckdb']}, pyarrow {versions['pyarrow']}, "
        f"commit {versions['commit']}. Each cell: how many times as fast Timestore is, then MB/s of Arrow data, "
        "medians with least and greatest. Timestore is reached over Flight, by a client on the same cores; the others "
        f"run in the process that has the rows.{_disturbance(machine)}"
    )


def _disturbance(machine: Mapping[str, Any]) -> str:
    share = machine.get("others_share", 0.0)
    if share < NOTABLE_SHARE:
        return ""
    return (
        f" **Other work took {share:.0%} of the machine meanwhile**: trust the MB/s little, the ratios a little more."
    )


def _cell(row: BulkRow | None) -> str:
    if row is None:
        return "-"
    ratio = f"**{row.timestore_to_it.text(2)}x**, " if row.timestore_to_it else ""
    return f"{ratio}{row.megabytes_per_s.text(0)}"


def _place(name: str, shapes: list[str], cells: dict[tuple[str, str], BulkRow]) -> tuple[bool, float]:
    """Timestore comes first, then the fastest on the first shape."""
    row = next((cells[shape, name] for shape in shapes if (shape, name) in cells), None)
    return name != TIMESTORE, -row.megabytes_per_s.median if row else 0.0


def _never(name: str, cells: dict[tuple[str, str], BulkRow]) -> bool:
    return all(name != other for _, other in cells)
