"""What is reported: ratios first, for they are what carries over to another day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from bench.runs import Case, Run

FORMAT = 1
PUT = "timestore put"
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a few figures, with the least and the greatest."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        return cls(median(figures), min(figures), max(figures))

    def text(self, digits: int) -> str:
        """Write it with the range only where there is one."""
        middle = f"{self.median:,.{digits}f}"
        return middle if self.min == self.max else f"{middle} ({self.min:,.{digits}f}-{self.max:,.{digits}f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The speed of a put as a part of a ceiling's, compared round by round."""

    shape: str
    streams: int | None
    ceiling: str
    put_to_ceiling: Spread


def compare(cases: list[Case]) -> list[Ratio]:
    """Compare each put with every ceiling on the same shape, and where it has streams, with as many."""
    return [
        Ratio(
            shape=put.shape,
            streams=put.streams,
            ceiling=ceiling.contender,
            put_to_ceiling=Spread.of(
                [theirs.seconds / ours.seconds for ours, theirs in zip(put.runs, ceiling.runs, strict=True)]
            ),
        )
        for put in cases
        if put.contender == PUT
        for ceiling in cases
        if ceiling.contender != PUT and ceiling.shape == put.shape and ceiling.streams in (None, put.streams)
    ]


def as_json(
    cases: list[Case], *, settings: dict[str, object], machine: dict[str, object], versions: dict[str, str | None]
) -> dict[str, object]:
    """Build the whole report, every single run included."""
    return {
        "format": FORMAT,
        "verified": True,  # there is no report of a run that was wrong
        "ratios": [asdict(ratio) for ratio in compare(cases)],
        "results": [_result(case) for case in cases],
        "settings": settings,
        "machine": machine,
        "versions": versions,
    }


def show(console: Console, report: dict[str, object], cases: list[Case]) -> None:
    """Print the tables: medians, with the range in brackets."""
    console.print(_ratio_table(compare(cases)))
    console.print(_speed_table(cases))
    console.print(_server_table(cases))
    for title in ("settings", "machine", "versions"):
        facts = report[title]
        assert isinstance(facts, dict)
        console.print(f"[bold]{title}[/]: " + ", ".join(f"{k} {v}" for k, v in facts.items()), highlight=False)
    console.print("Every put was read back and compared with what was sent: every row, every value.")


def _result(case: Case) -> dict[str, object]:
    return {
        "contender": case.contender,
        "shape": case.shape,
        "streams": case.streams,
        "rows": case.rows,
        "arrow_bytes": case.bytes,
        "mb_per_s": asdict(_megabytes_per_s(case)),
        "rows_per_s": asdict(Spread.of(_rows_rates(case))),
        "runs": [asdict(run) for run in case.runs],
    }


def _ratio_table(ratios: list[Ratio]) -> Table:
    table = _table("How near a put comes to what the machine allows", "shape", "streams", "put, as part of", "ratio")
    for ratio in ratios:
        table.add_row(ratio.shape, str(ratio.streams), ratio.ceiling, ratio.put_to_ceiling.text(2))
    return table


def _speed_table(cases: list[Case]) -> Table:
    table = _table("Speeds (MB of Arrow)", "shape", "streams", "contender", "MB/s", "Mrows/s")
    for case in cases:
        table.add_row(
            case.shape,
            str(case.streams or "-"),
            case.contender,
            _megabytes_per_s(case).text(0),
            Spread.of([rows / 1e6 for rows in _rows_rates(case)]).text(2),
        )
    return table


def _server_table(cases: list[Case]) -> Table:
    columns = ("shape", "streams", "seconds", "CPU s", "RSS before, MB", "RSS peak, MB")
    table = _table("What a put costs the server's process", *columns)
    for case in cases:
        if case.contender == PUT:
            table.add_row(
                case.shape,
                str(case.streams),
                Spread.of([run.seconds for run in case.runs]).text(1),
                _of_server(case, lambda run: run.cpu_s, 1),
                _of_server(case, lambda run: _in_mb(run.rss_before_bytes), 0),
                _of_server(case, lambda run: _in_mb(run.rss_peak_bytes), 0),
            )
    return table


def _of_server(case: Case, figure: Callable[[Run], float | None], digits: int) -> str:
    figures = [value for run in case.runs if (value := figure(run)) is not None]
    return Spread.of(figures).text(digits) if figures else "-"


def _in_mb(size: int | None) -> float | None:
    return size / MB if size is not None else None


def _megabytes_per_s(case: Case) -> Spread:
    return Spread.of([case.bytes / run.seconds / MB for run in case.runs])


def _rows_rates(case: Case) -> list[float]:
    return [case.rows / run.seconds for run in case.runs]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column)
    return table
