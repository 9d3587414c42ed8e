"""What is said about a result: targets, exit codes, tables, plots. All from made-up results."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import main
from bench.measuring import WrongResultError
from bench.parts.table import PARTS, Part
from bench.plots import write_plots
from bench.readme import BEGIN, END, markdown
from bench.results import Report, ReportError
from bench.session import Session
from bench.targets import TARGETS, judge


def bench(*arguments: str | Path) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_every_target_is_judged(fabricate) -> None:
    """Each line of the table of targets finds its figures in a whole result, and a good one meets them all."""
    verdicts = judge(fabricate())

    assert {verdict.target.name for verdict in verdicts} == {target.name for target in TARGETS}
    assert [verdict for verdict in verdicts if not verdict.met] == []


def test_the_optimum_is_reckoned_from_processor_seconds(fabricate) -> None:
    """The first target compares wall time with (CPU of the files + CPU of the transport) / cores, round by round."""
    [verdict] = [
        verdict
        for verdict in judge(fabricate())
        if verdict.target.name == "bulk-optimum" and verdict.subject == "plain, 4 streams, 1 window"
    ]
    assert verdict.spread.median == pytest.approx(1.05 / ((1.9 + 0.1) / 2))
    assert verdict.spread.min == pytest.approx(0.99 * verdict.spread.median)


def test_a_result_that_meets_everything_ends_well(fabricate, tmp_path) -> None:
    """Judging a good result exits with 0, and shows verdicts before ratios before speeds."""
    shown = bench("judge", fabricate().save(tmp_path))

    assert shown.exit_code == 0, shown.output
    places = [shown.output.index(title) for title in ("Targets", "how many times as fast", "speeds", "Absent")]
    assert places == sorted(places)
    assert "no wheel for this machine" in shown.output


@pytest.mark.parametrize(
    ("worse", "missed"),
    [
        ({"put": 1.04}, "bulk-optimum"),
        (
            {"put": 1.3},
            "ahead-of-copy, ahead-of-ducklake, ahead-of-pyiceberg, bulk-optimum, level-with-delta-rs, share-",
        ),
        ({"wide_put": 1.3}, "ahead-of-copy, ahead-of-ducklake, ahead-of-pyiceberg, level-with-delta-rs\n"),
        ({"rss": 1.2}, "memory-bound"),
        ({"manifest": 1.5}, "manifest-page"),
        ({"crowd": 1.2}, "many-clients"),
    ],
)
def test_a_missed_target_is_an_exit_code(fabricate, tmp_path, worse, missed) -> None:
    """Whatever misses its limit is named, and the exit code is 1."""
    shown = bench("judge", fabricate(**worse).save(tmp_path))

    assert shown.exit_code == 1
    assert f"missed: {missed}" in shown.output


def test_what_was_not_measured_is_not_judged(fabricate, tmp_path) -> None:
    """A result of one part says of the other targets that they were not measured, and fails for none."""
    whole = fabricate()
    cases = tuple(case for case in whole.cases if case.part == "start")
    fields = {name: getattr(whole, name) for name in Report.__slots__}
    path = Report(**fields | {"cases": cases}).save(tmp_path)

    shown = bench("judge", path)

    assert shown.exit_code == 0
    assert shown.output.count("not measured") == len(TARGETS) - 1


def test_the_list_has_every_target() -> None:
    """`bench list` explains each target, with its limit."""
    listed = bench("list")

    assert listed.exit_code == 0
    for target in TARGETS:
        assert target.name in listed.output
        assert f"{target.bound} {target.limit:g} {target.unit}" in listed.output


def test_compare_finds_what_became_worse(fabricate, tmp_path) -> None:
    """Comparing exits with 1 for what is worse beyond tolerance and noise, and with 0 for noise and for the better."""
    old, slower, noisy = (
        fabricate(**worse).save(tmp_path / name)
        for name, worse in {"old": {}, "slower": {"put": 1.2}, "noisy": {"put": 1.01}}.items()
    )

    worse = bench("compare", old, slower)
    assert worse.exit_code == 1
    assert "WORSE" in worse.output
    assert bench("compare", old, slower, "--tolerance", "0.5").exit_code == 0
    for after in (old, noisy):
        assert bench("compare", old, after).exit_code == 0
    assert bench("compare", slower, old).exit_code == 0


def test_compare_says_what_differs_besides(fabricate, tmp_path) -> None:
    """Another machine is named before figures are compared."""
    old = fabricate().save(tmp_path / "old")
    fields = json.loads(old.read_text())
    fields["machine"]["cores"] = 64
    new = tmp_path / "new.json"
    new.write_text(json.dumps(fields))

    assert "beware: cores was 2, is 64" in bench("compare", old, new).output


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 1}', '{"format": 2}', '{"format": 2, "cases": 7, "absences": []}']
)
def test_a_file_that_is_no_result_is_refused(text, tmp_path) -> None:
    """What is no result is refused by name, not by a traceback."""
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"result\.json"):
        Report.load(tmp_path)
    assert bench("judge", path).exit_code == 1


def test_a_result_survives_being_saved(fabricate, tmp_path) -> None:
    """What was saved is loaded again, every sample of it."""
    report = fabricate()
    report.save(tmp_path)
    assert Report.load(tmp_path) == report


def test_the_readme_gets_its_table(fabricate, tmp_path) -> None:
    """What stands between the markers is replaced: machine, date, and a row with its durability for each contender."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    result = fabricate().save(tmp_path)

    for _ in range(2):
        assert bench("judge", result, "--readme", readme).exit_code == 0
        text = readme.read_text()
        assert text.startswith(f"before\n{BEGIN}\n")
        assert text.endswith(f"{END}\nafter\n")
        assert "old" not in text
        for expected in ("2026-11-24", "made up", "| timestore |", "fsynced, committed", "| delta-rs |", "**1.14"):
            assert expected in text


def test_the_table_says_that_the_machine_was_shared(fabricate, tmp_path) -> None:
    """Whoever reads the table learns that other work disturbed it, and how much."""
    alone, report = fabricate(), fabricate()
    shared = replace(report, machine={**report.machine, "others_share": 0.41})

    assert "Other work took 41%" in markdown(shared)
    assert "Other work" not in markdown(alone)


def test_a_readme_without_markers_is_left_alone(fabricate, tmp_path) -> None:
    """Without both markers nothing is written, and the message names them."""
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\nno end\n")

    refused = bench("judge", fabricate().save(tmp_path), "--readme", readme)

    assert refused.exit_code == 1
    assert END in refused.output
    assert readme.read_text() == f"{BEGIN}\nno end\n"


def test_plots_are_drawn(fabricate, tmp_path) -> None:
    """Each shape has an SVG with a bar for every contender under every load."""
    report = fabricate()
    for path in write_plots(report, tmp_path):
        drawing = ET.fromstring(path.read_text())
        texts = ["".join(element.itertext()) for element in drawing]
        shape = path.stem.removeprefix("bulk-")
        assert len(texts) == 2 + 4 * len(report.select("bulk", shape=shape))
        assert any(text.startswith("delta-rs") for text in texts)


def test_a_wrong_run_leaves_no_result(monkeypatch, tmp_path) -> None:
    """When something was stored wrong, the run says so, exits with 1 and leaves no result, however fast it was."""

    def wrong(session: Session) -> None:
        raise WrongResultError("somebody on plain: read back 1 rows; sent 2 rows")

    out = tmp_path / "out"

    def right(session: Session) -> None:
        session.recorder.add("start", "timestore", {}, {"seconds": 1.0})

    monkeypatch.setitem(PARTS, "start", Part(name="start", about="", measure=right))
    monkeypatch.setitem(PARTS, "bulk", Part(name="bulk", about="", measure=wrong))

    ended = bench("run", "--part", "start", "--part", "bulk", "--out", out, "--dir", tmp_path)

    assert ended.exit_code == 1
    assert "read back 1 rows; sent 2 rows" in ended.output
    assert list(out.iterdir()) == []
    assert list(tmp_path.iterdir()) == [out]


def test_an_interrupted_run_keeps_its_finished_parts(monkeypatch, tmp_path) -> None:
    """What had been measured when a long run was interrupted can be judged; it does not pass for a whole result."""

    def right(session: Session) -> None:
        session.recorder.add("start", "timestore", {}, {"seconds": 1.0})

    def interrupted(session: Session) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(PARTS, "start", Part(name="start", about="", measure=right))
    monkeypatch.setitem(PARTS, "bulk", Part(name="bulk", about="", measure=interrupted))

    ended = bench("run", "--part", "start", "--part", "bulk", "--out", tmp_path / "out", "--dir", tmp_path)

    assert ended.exit_code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]
    assert bench("judge", tmp_path / "out" / "unfinished.json").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--loads", "1"), "1x1,4x1,1x28"),
        (("--mb", "1", "--part", "bulk", "--shape", "wide"), "rows are too few for 28 days"),
        (("--part", "nothing"), "'nothing' is not one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, complaint) -> None:
    """An option that cannot be used is refused before anything is measured."""
    refused = bench("run", *arguments)
    assert refused.exit_code == 2
    assert complaint in refused.output
