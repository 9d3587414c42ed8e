"""What is shown: verdicts and ratios first, for they are what carries over to another day."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from bench.bulk_rows import BulkRow, bulk_rows, shapes_of
from bench.contenders import TIMESTORE
from bench.parts import bulk
from bench.results import Case, Report, Spread
from bench.targets import TARGETS, Target, Verdict, judge


def show(console: Console, report: Report) -> None:
    """Print everything that people look at; the rest is in the JSON."""
    rows = [row for shape in shapes_of(report) for row in bulk_rows(report, shape)]
    tables = [verdict_table(judge(report)), _ratio_table(rows), _speed_table(rows), _other_table(report)]
    for table in (*tables, _absence_table(report)):
        if table.row_count:
            console.print(table)
    for name, value in {**report.machine, **report.versions}.items():
        console.print(f"{name}: {value}", style="dim")


def verdict_table(verdicts: list[Verdict]) -> Table:
    """Say of every target, on everything it was measured on, whether it is met; and which were not measured."""
    table = _table("Targets", "target", "on", "measured", "asked for", "")
    for verdict in verdicts:
        target = verdict.target
        measured = f"{verdict.spread.text(2)} {target.unit}"
        table.add_row(target.name, verdict.subject, measured, limit_of(target), "met" if verdict.met else "MISSED")
    judged = {verdict.target.name for verdict in verdicts}
    for target in TARGETS:
        if target.name not in judged:
            table.add_row(target.name, "-", "not measured", limit_of(target), "")
    return table


def target_table() -> Table:
    """Explain every target."""
    table = _table("Targets", "target", "what", "asked for", "how it is judged")
    for target in TARGETS:
        table.add_row(target.name, target.what, limit_of(target), target.how)
    return table


def limit_of(target: Target) -> str:
    return f"{target.bound} {target.limit:g} {target.unit}"


def _ratio_table(rows: list[BulkRow]) -> Table:
    table = _table("Bulk: how many times as fast Timestore is", "shape", "against", "load", "ratio")
    for row in rows:
        if row.timestore_to_it is not None:
            table.add_row(row.case.labels["shape"], row.case.contender, row.case.load, row.timestore_to_it.text(2))
    return table


def _speed_table(rows: list[BulkRow]) -> Table:
    columns = ("shape", "contender", "load", "MB/s", "Mrows/s", "CPU s", "on disk, MB")
    table = _table("Bulk: speeds (MB of Arrow in memory)", *columns)
    for row in rows:
        table.add_row(
            row.case.labels["shape"],
            row.case.contender,
            row.case.load,
            row.megabytes_per_s.text(0),
            Spread.of([rate / 1e6 for rate in (row.rows_per_s.median, row.rows_per_s.min, row.rows_per_s.max)]).text(2),
            row.figure("cpu_s", 2),
            row.figure("disk_bytes", 0, 1e-6),
        )
    return table


def _other_table(report: Report) -> Table:
    table = _table("The other parts", "part", "what", "measured")
    for case in report.cases:
        if case.part != bulk.PART:
            table.add_row(case.part, case.title.removeprefix(f"{TIMESTORE} "), "\n".join(_figures(case)))
    return table


def _figures(case: Case) -> list[str]:
    return [
        f"{Spread.of([value / 1e6 for value in case.values(name)]).text(0)} MB {name.removesuffix('_bytes')}"
        if name.endswith("_bytes")
        else f"{Spread.of(case.values(name)).text(2)} {name}"
        for name in case.samples[0]
    ]


def _absence_table(report: Report) -> Table:
    table = _table("Absent", "part", "contender", "shape", "why")
    for absence in report.absences:
        table.add_row(absence.part, absence.contender, absence.shape, absence.reason)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column)
    return table
