"""The benchmark itself, on very little data: real servers, real files, everything read back. No speed is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli import measure
from bench.contenders import DUCKDB_ENUM_FILES, DUCKDB_FILES, FLIGHT_DROP, OUR_WRITERS, TIMESTORE
from bench.contenders.duckdb_files import DuckDBFiles
from bench.contenders.flight_drop import FlightDrop
from bench.contenders.our_writers import OurWriters
from bench.data import SHAPES
from bench.load import Load, Rows
from bench.plan import FULL, QUICK, check_plan
from bench.results import Report
from bench.targets import judge

SMALL = replace(
    QUICK,
    repeats=1,
    shapes=("plain",),
    peers=(),
    loads=((1, 1), (2, 3)),
    bulk_bytes=1_000_000,
    disorder_bytes=6_000_000,
    many_windows=29,
    many_files=200,
    commits=3,
    small_stream_bytes=2_000_000,
    large_stream_bytes=4_000_000,
    many_streams=2,
    stream_windows=5,
    large_batch_rows=1 << 16,
    lone_puts=3,
    clients=2,
)


@pytest.mark.timeout(300)
def test_bulk_as_a_person_runs_it(tmp_path) -> None:
    """`python -m bench run` measures, verifies, shows ratios before speeds, and leaves result and plots alone."""
    out, work = tmp_path / "out", tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "bench", "run", "--part", "bulk", "--no-peers", "--repeats", "2", "--mb", "1"]

    ended = subprocess.run(
        [*command, "--shape", "plain", "--loads", "1x1,2x3", "--dir", str(work), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )

    report = Report.load(out)
    assert ended.returncode == (0 if all(verdict.met for verdict in judge(report)) else 1), ended.stderr
    assert ended.stdout.index("how many times as fast") < ended.stdout.index("Bulk: speeds")
    assert {path.name for path in out.iterdir()} == {"result.json", "table.md", "bulk-plain.svg"}
    assert list(work.iterdir()) == []
    assert {case.contender for case in report.cases} >= {TIMESTORE, FLIGHT_DROP, DUCKDB_FILES, OUR_WRITERS}
    assert all(len(case.samples) == 2 for case in report.cases)
    assert all(report.durability[case.contender] for case in report.cases)
    for put in report.select("bulk", TIMESTORE):
        assert all(sample["rss_peak_bytes"] > 1e7 and sample["disk_bytes"] > 0 for sample in put.samples)
    assert {verdict.target.name for verdict in judge(report)} == {"bulk-optimum", "share-plain"}
    assert {"settings", "machine", "versions", "format"} <= json.loads((out / "result.json").read_text()).keys()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("part", "judged"),
    [
        ("disorder", {"random-order", "many-windows"}),
        ("flat", {"flat-commit", "manifest-page"}),
        ("memory", {"memory-growth", "memory-bound", "no-starving"}),
        ("start", {"start"}),
        ("puts", {"one-put", "many-clients"}),
        ("store", {"store"}),
    ],
)
def test_each_part_gives_what_its_targets_need(part, judged, tmp_path) -> None:
    """Each part runs, verified, on real servers, and its targets find their figures in what it leaves."""
    kept: list[Report] = []

    report = measure(replace(SMALL, parts=(part,)), tmp_path, keep=kept.append)

    [last] = kept
    assert replace(last, machine=report.machine) == report  # which also knows how much other work there was
    assert last.machine.items() <= report.machine.items()
    assert {verdict.target.name for verdict in judge(report)} == judged
    assert report.absences == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("days", [1, 3])
def test_files_are_written_right(shape, days, tmp_path) -> None:
    """The in-process ceiling stores every row of every shape, in one window and in several, texts as ENUM too."""
    rows = Rows.make(SHAPES[shape], 5000, days=days)
    for enums in (False, True):
        files = DuckDBFiles(folder=tmp_path, enums=enums)
        try:
            if files.fits(rows.schema):
                figures = files.run(Load(rows=rows, order="any" if days > 1 else "ordered"))
                assert figures["cpu_s"] > 0
                assert files.name == (DUCKDB_ENUM_FILES if enums else DUCKDB_FILES)
        finally:
            files.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", SHAPES)
def test_our_writers_take_every_shape(shape, tmp_path) -> None:
    """Timestore's own writers write every row of every shape, and leave nothing behind."""
    rows = Rows.make(SHAPES[shape], 5000)
    writers = OurWriters(folder=tmp_path)
    try:
        figures = writers.run(Load(rows=rows, order="ordered"))
    finally:
        writers.close()
    assert figures.keys() == {"seconds", "cpu_s"}
    assert list(tmp_path.iterdir()) == []


def test_the_bare_flight_server_counts(tmp_path: Path) -> None:
    """The ceiling of the transport gets every row over one stream and over several, and tells both processes' CPU."""
    rows = Rows.make(SHAPES["narrow"], 300_000)
    with FlightDrop() as drop:
        for streams in (1, 3):
            figures = drop.run(Load(rows=rows, streams=streams))
            assert figures["cpu_s"] > figures["server_cpu_s"] > 0


def test_the_plans_are_what_is_asked_for() -> None:
    """The quick plan is plain and narrow with three peers, the full one everything; both have five rounds."""
    assert (QUICK.shapes, len(QUICK.peers), QUICK.repeats) == (("plain", "narrow"), 3, 5)
    assert (set(FULL.shapes), len(FULL.peers), FULL.repeats) == (set(SHAPES), 8, 5)
    assert {streams for streams, _ in FULL.loads} == {1, 2, 4, 16}
    assert {windows for _, windows in FULL.loads} == {1, 28}
    assert (FULL.many_windows, FULL.many_files, FULL.large_stream_bytes) == (1_000, 100_000, 20_000_000_000)
    for plan in (QUICK, FULL):
        check_plan(plan)
