"""``python -m bench``, which is ``make bench``."""

from __future__ import annotations

import json
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from bench.ceilings import DuckDBCeiling, FlightDrop, WriteCeiling
from bench.data import BATCH_ROWS, SHAPES, Shape
from bench.machine import describe_machine, describe_versions
from bench.report import PUT, as_json, show
from bench.row_digest import RowDigest
from bench.runs import Case, Rows, Run, WrongResultError
from bench.timestore_put import TimestorePut
from timestore.errors import TimestoreError
from timestore_app.demo.server_process import ServerFailedError

WIDTH = 120  # of the tables, where nobody looks at a terminal
_FAILURES = (WrongResultError, ServerFailedError, TimestoreError, OSError)


class IntegerList(click.ParamType[list[int]]):
    """Positive integers with commas between them."""

    name = "integers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Parse them."""
        if isinstance(value, list):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is not a list of positive integers, such as 1,4", param, ctx)
        return list(dict.fromkeys(int(part) for part in parts))


class Contenders:
    """All that is compared, started once and used in every round."""

    def __init__(self, stack: ExitStack, folder: Path, serve_arguments: tuple[str, ...]) -> None:
        self.put = stack.enter_context(TimestorePut(data_dir=folder / "server", serve_arguments=serve_arguments))
        self.drop = stack.enter_context(FlightDrop())
        self.duckdb = stack.enter_context(closing(DuckDBCeiling(folder=folder)))
        self.writers = stack.enter_context(closing(WriteCeiling(folder=folder)))

    def on(
        self, data: Rows, expected: RowDigest, streams: list[int]
    ) -> Iterator[tuple[str, int | None, Callable[[], Run]]]:
        """List them for one shape: name, streams, and what to call."""
        yield "DuckDB alone, in process", None, partial(self.duckdb.run, data)
        yield "our writers, in process", None, partial(self.writers.run, data)
        for number in streams:
            yield "Flight that drops", number, partial(self.drop.run, data, number)
            yield PUT, number, partial(self.put.run, data, number, expected)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--rows", type=click.IntRange(min=1000), default=2_000_000, show_default=True, help="Rows of a put.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds that count.")
@click.option("--streams", type=IntegerList(), default="1,4", show_default=True, help="Streams at once, to compare.")
@click.option("--shape", "shapes", type=click.Choice(list(SHAPES)), multiple=True, help="Only this one. [repeatable]")
@click.option("--json", "json_path", metavar="FILE", help="Write the report here too; - prints it and no tables.")
@click.option(
    "--dir",
    "parent",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=tempfile.gettempdir,
    show_default="the system's temporary directory",
    help="Where files are written, into a directory of their own that is removed. On a tmpfs, fsync costs nothing.",
)
@click.option(
    "--serve-arg", "serve_arguments", multiple=True, help="Passed to `timestore serve`, and reported. [repeatable]"
)
def main(
    rows: int,
    repeats: int,
    streams: list[int],
    shapes: tuple[str, ...],
    json_path: str | None,
    parent: Path,
    serve_arguments: tuple[str, ...],
) -> None:
    """Measure how fast a put is, against what this machine allows in the same minutes.

    \b
    A put goes through a real `timestore serve`, in a process of its own, with an
    embedded Postgres. It is compared with
      DuckDB alone, in process  the same rows, in memory, to closed and fsynced
                                files: nothing of Timestore, all cores
      our writers, in process   the same by Timestore's writers, which also digest
                                rows, and hash files
      Flight that drops         a bare Flight server in another process, which reads
                                the stream and keeps nothing

    \b
    Shapes, after TSBS's cpu-only:
      plain   timestamp, 10 texts, 5 doubles, 5 integers
      narrow  timestamp, integer key, double; five times as many rows

    All take turns, in another order each round; the first round does not count. Ratios are taken within a round, and
    come first: on another day or machine the MB/s differ, the ratios much less. What is shown is the median, with the
    least and the greatest in brackets.

    After each put everything is read back. If a row or a value differs, there is no report, and the exit code is 1.
    Nothing is judged by time.

    Serve arguments look like this: --serve-arg=--memory-budget=512MiB
    """  # noqa: D301
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the servers must not outlive us
    settings: dict[str, object] = {
        "rows": rows,
        "repeats": repeats,
        "streams": streams,
        "shapes": list(shapes or SHAPES),
        "batch_rows": BATCH_ROWS,
        "serve_arguments": list(serve_arguments),
    }
    progress = Console(stderr=True, highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="timestore-bench-", dir=parent) as folder:
            machine = describe_machine(Path(folder))
            with ExitStack() as stack:
                contenders = Contenders(stack, Path(folder), serve_arguments)
                cases = [
                    case
                    for name in shapes or SHAPES
                    for case in _measure(SHAPES[name], contenders, rows, repeats, streams, progress)
                ]
    except _FAILURES as exc:
        click.echo(f"bench: {exc}", err=True)
        sys.exit(1)
    _publish(as_json(cases, settings=settings, machine=machine, versions=describe_versions()), cases, json_path)


def _measure(
    shape: Shape, contenders: Contenders, rows: int, repeats: int, streams: list[int], progress: Console
) -> list[Case]:
    """Let all contenders take turns on one shape."""
    data = _load(shape, rows * shape.rows_factor)
    progress.print(f"{shape.name}: {shape.about}; {data.rows:,} rows, {data.bytes / 1e6:,.0f} MB")
    turns = list(contenders.on(data, RowDigest.of(data.batches, data.columns), streams))
    cases = [
        Case(contender=name, shape=shape.name, streams=number, rows=data.rows, bytes=data.bytes, runs=[])
        for name, number, _ in turns
    ]
    for number in range(repeats + 1):
        progress.print(f"  round {number} of {repeats}{'' if number else ' (does not count)'}")
        order = list(zip(cases, turns, strict=True))
        random.Random(number).shuffle(order)  # nobody always comes after the same one, and its writeback
        for case, (_, _, take_turn) in order:
            run = take_turn()
            if number:
                case.runs.append(run)
    return cases


def _load(shape: Shape, rows: int) -> Rows:
    """Make the rows, in memory: making them is not what is timed."""
    batches = list(shape.batches(rows))
    size = sum(batch.nbytes for batch in batches)
    return Rows(shape=shape.name, columns=batches[0].schema.names, batches=batches, rows=rows, bytes=size)


def _publish(report: dict[str, object], cases: list[Case], json_path: str | None) -> None:
    text = json.dumps(report, indent=2) + "\n"
    if json_path == "-":
        click.echo(text, nl=False)
        return
    terminal = Console()
    show(terminal if terminal.is_terminal else Console(width=WIDTH), report, cases)
    if json_path is not None:
        Path(json_path).write_text(text, encoding="utf-8")


if __name__ == "__main__":  # not in the bare Flight server's process, which imports this again
    main()
