"""The command line: ``run``, ``judge``, ``compare`` and ``list``."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import structlog
from rich.console import Console

from bench.compare import change_table, compare, differences
from bench.contenders.peer import PEERS
from bench.data import SHAPES
from bench.environments import ROOT
from bench.machine import OtherWork, describe_machine, describe_versions
from bench.measuring import WrongResultError
from bench.parts.table import PARTS
from bench.plan import FULL, QUICK, Plan, check_plan
from bench.plots import write_plots
from bench.readme import MarkersMissingError, save_table, write_table
from bench.results import UNFINISHED_NAME, Recorder, Report, ReportError
from bench.server import forget_settings
from bench.session import Session, running_postgres
from bench.tables import show, target_table
from bench.targets import judge
from catalog.embedded import EmbeddedPostgresError
from timestore.errors import TimestoreError
from timestore_app.demo.server_process import ServerFailedError

WIDTH = 140  # of the tables, where nobody looks at a terminal
BUILD = ROOT / "build"
MEGABYTE = 1_000_000
_FAILURES = (WrongResultError, ServerFailedError, TimestoreError, EmbeddedPostgresError, OSError)


class Loads(click.ParamType[tuple[tuple[int, int], ...]]):
    """Pairs of streams and windows: 1x1,4x1,1x28."""

    name = "streams x windows"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, int], ...]:
        """Parse them."""
        if isinstance(value, tuple):
            return value
        pairs = [part.split("x") for part in str(value).split(",")]
        if not all(len(pair) == 2 and all(text.isdecimal() and int(text) for text in pair) for pair in pairs):
            self.fail(f"{value!r} is not a list such as 1x1,4x1,1x28: streams and windows", param, ctx)
        return tuple(dict.fromkeys((int(streams), int(windows)) for streams, windows in pairs))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure Timestore against what this machine allows, and against other systems, in the same minutes.

    Every run's rows are read back and compared; if a row or a value differs there is no result. The exit code is 1
    then, and also when a target is missed.
    """


@main.command()
@click.option("--full", is_flag=True, help="Everything, in up to two hours; without it, the quick plan.")
@click.option("--part", "parts", type=click.Choice(list(PARTS)), multiple=True, help="Only this one. [repeatable]")
@click.option("--shape", "shapes", type=click.Choice(list(SHAPES)), multiple=True, help="Only this one. [repeatable]")
@click.option("--peer", "peers", type=click.Choice(list(PEERS)), multiple=True, help="Only this one. [repeatable]")
@click.option("--no-peers", is_flag=True, help="No other systems.")
@click.option("--repeats", type=click.IntRange(min=1), help="Rounds that count; 5 in both plans.")
@click.option("--loads", type=Loads(), help="Streams and windows of bulk puts, such as 1x1,4x1,1x28.")
@click.option("--mb", type=click.IntRange(min=1), help="Arrow data in a bulk put, and in one of the part disorder.")
@click.option("--windows", type=click.IntRange(min=2), help="Of the put with many windows.")
@click.option("--files", type=click.IntRange(min=200), help="In the larger catalog.")
@click.option("--stream-mb", type=(int, int), metavar="SMALL LARGE", help="The streams whose memory is compared.")
@click.option("--streams", type=click.IntRange(min=1), help="Of the memory's case with many.")
@click.option("--puts", type=click.IntRange(min=1), help="Small puts in a round, and commits.")
@click.option("--serve-arg", "serve_arguments", multiple=True, help="Passed to `timestore serve`. [repeatable]")
@click.option(
    "--dir",
    "parent",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=tempfile.gettempdir,
    show_default="the system's temporary directory",
    help="Where data goes, into a directory that is removed. On a tmpfs, fsync costs nothing.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    show_default="build/bench/<time>",
    help="Where result.json and the plots go.",
)
@click.option("--readme", type=click.Path(path_type=Path, exists=True), help="Write the table into this file as well.")
def run(parent: Path, out: Path | None, readme: Path | None, **options: Any) -> None:
    """Measure, show and judge.

    Contenders take turns, in another order each round; the first round does not count. Ratios are taken within a round,
    and come first: on another day or machine the MB/s differ, the ratios much less.

    Serve arguments look like this: --serve-arg=--memory-budget=512MiB
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the servers must not outlive us
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    forget_settings()
    plan = chosen_plan(**options)
    folder = out or BUILD / "bench" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        check_plan(plan)
    except ValueError as exc:
        raise click.UsageError(f"{exc}; give more --mb, or fewer windows") from exc
    try:
        report = measure(plan, parent, keep=lambda report: report.save(folder, name=UNFINISHED_NAME))
    except _FAILURES as exc:
        (folder / UNFINISHED_NAME).unlink(missing_ok=True)
        raise click.ClickException(str(exc)) from exc
    path = report.save(folder)
    (folder / UNFINISHED_NAME).unlink()
    save_table(folder, report)
    plots = write_plots(report, folder)
    click.echo(f"{path}, and {len(plots)} plots beside it", err=True)
    _finish(report, readme)


@main.command("judge")
@click.argument("result", type=click.Path(path_type=Path, exists=True))
@click.option("--readme", type=click.Path(path_type=Path, exists=True), help="Write the table into this file as well.")
def judge_again(result: Path, readme: Path | None) -> None:
    """Show and judge a RESULT that was measured before."""
    _finish(_load(result), readme)


@main.command("compare")
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=1),
    default=0.05,
    show_default=True,
    help="Worse by this is no news.",
)
def compare_results(old: Path, new: Path, tolerance: float) -> None:
    """Say what became worse from OLD to NEW: files result.json, or their folders. Exit code 1 if anything did."""
    before, after = _load(old), _load(new)
    for difference in differences(before, after):
        click.echo(f"beware: {difference}", err=True)
    changes = compare(before, after)
    if not changes:
        raise click.ClickException("the two have measured nothing in common")
    _console().print(change_table(changes, tolerance))
    if any(change.is_worse(tolerance) for change in changes):
        sys.exit(1)


@main.command("list")
def list_everything() -> None:
    """List parts, shapes, peers and targets."""
    console = _console()
    for title, lines in {
        "Parts": {name: part.about for name, part in PARTS.items()},
        "Shapes": {name: shape.about for name, shape in SHAPES.items()},
        "Peers": {name: facts.durability for name, facts in PEERS.items()},
    }.items():
        console.print(title, style="italic")
        for name, about in lines.items():
            console.print(f"  {name:<20} {about}")
        console.print()
    console.print(target_table())


def chosen_plan(
    *, full: bool, no_peers: bool, mb: int | None, stream_mb: tuple[int, int] | None, puts: int | None, **options: Any
) -> Plan:
    """Take a plan and change what the options name."""
    changes: dict[str, Any] = {
        "parts": options["parts"],
        "shapes": options["shapes"],
        "peers": options["peers"],
        "repeats": options["repeats"],
        "loads": options["loads"],
        "many_windows": options["windows"],
        "many_files": options["files"],
        "many_streams": options["streams"],
        "serve_arguments": options["serve_arguments"],
    }
    changes = {name: value for name, value in changes.items() if value}
    if no_peers:
        changes["peers"] = ()
    if mb:
        changes |= {"bulk_bytes": mb * MEGABYTE, "disorder_bytes": mb * MEGABYTE}
    if stream_mb:
        changes |= {"small_stream_bytes": stream_mb[0] * MEGABYTE, "large_stream_bytes": stream_mb[1] * MEGABYTE}
    if puts:
        changes |= {"lone_puts": puts, "commits": puts}
    return replace(FULL if full else QUICK, **changes)


def measure(plan: Plan, parent: Path, *, keep: Callable[[Report], object]) -> Report:
    """Do what the plan says, in a directory that is removed at the end; ``keep`` gets what there is after each part."""
    progress = Console(stderr=True, highlight=False)
    recorder = Recorder()
    with tempfile.TemporaryDirectory(prefix="timestore-bench-", dir=parent) as folder:
        machine, others = describe_machine(Path(folder)), OtherWork()
        with running_postgres(Path(folder)) as postgres:
            session = Session(
                plan=plan,
                folder=Path(folder),
                environments=BUILD / "bench-envs",
                postgres=postgres,
                recorder=recorder,
                tell=progress.print,
            )
            for name in plan.parts:
                PARTS[name].measure(session)
                report = recorder.report(asdict(plan), machine, describe_versions(plan.peers))
                keep(report)
    return replace(report, machine={**report.machine, "others_share": others.share()})


def _finish(report: Report, readme: Path | None) -> None:
    """Show and judge, write the README's table if asked to, and exit with 1 if a target is missed."""
    show(_console(), report)
    if readme is not None:
        try:
            write_table(readme, report)
        except MarkersMissingError as exc:
            raise click.ClickException(str(exc)) from exc
    missed = sorted({verdict.target.name for verdict in judge(report) if not verdict.met})
    if missed:
        click.echo(f"missed: {', '.join(missed)}", err=True)
        sys.exit(1)


def _load(path: Path) -> Report:
    try:
        return Report.load(path)
    except ReportError as exc:
        raise click.ClickException(str(exc)) from exc


def _console() -> Console:
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDTH)
