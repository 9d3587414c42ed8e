"""The benchmark, run as `make bench` runs it, on very little data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from bench.data import BATCH_ROWS, SHAPES, deal
from bench.row_digest import RowDigest


@pytest.mark.timeout(240)
def test_a_small_run_reports_ratios_and_is_verified(tmp_path: Path) -> None:
    """A run on both shapes ends well, reports every ratio, has verified its puts, and leaves nothing behind."""
    report_path = tmp_path / "report.json"
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "bench", "--rows", "20000", "--repeats", "1", "--streams", "1,2"]

    run = subprocess.run(
        [*command, "--dir", str(work), "--json", str(report_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(report_path.read_text())
    assert report["verified"] is True
    assert {(ratio["shape"], ratio["streams"]) for ratio in report["ratios"]} == {
        (shape, streams) for shape in SHAPES for streams in (1, 2)
    }
    assert len(report["ratios"]) == 2 * 2 * 3
    assert all(ratio["put_to_ceiling"]["median"] > 0 for ratio in report["ratios"])
    puts = [result for result in report["results"] if result["contender"] == "timestore put"]
    assert {put["rows"] for put in puts} == {20_000 * shape.rows_factor for shape in SHAPES.values()}
    assert all(put["runs"][0]["rss_peak_bytes"] > 0 for put in puts)
    assert {"settings", "machine", "versions"} <= report.keys()
    assert run.stdout.index("How near a put comes") < run.stdout.index("Speeds")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.name)
def test_data_is_the_same_every_time(shape) -> None:
    """The rows of a shape are the same however many are made, in order of time, and dealing them out loses none."""
    rows = BATCH_ROWS + 1000
    few, more = list(shape.batches(1000)), list(shape.batches(rows))
    table = pa.Table.from_batches(more)
    streams = deal(more, 3)

    assert few[0].equals(more[0].slice(0, 1000))
    assert [batch.num_rows for batch in more] == [BATCH_ROWS, 1000]
    assert table["ts"].to_pylist() == sorted(table["ts"].to_pylist())
    assert sum(batch.num_rows for stream in streams for batch in stream) == rows
    assert all(streams)


def test_row_digest_knows_every_value_but_no_order() -> None:
    """The digest does not change with order and batches; it does with a value, and with values in other rows."""
    table = pa.Table.from_batches(SHAPES["plain"].batches(2000))
    names = table.column_names

    def digest(rows: pa.Table) -> RowDigest:
        return RowDigest.of(rows.to_batches(), names)

    turned = table.take(list(reversed(range(2000))))
    assert digest(pa.concat_tables([turned.slice(0, 7), turned.slice(7)])) == digest(table)
    for name in names:
        moved = pa.concat_arrays([table[name].chunk(0).slice(1), table[name].chunk(0).slice(0, 1)])
        assert moved.equals(table[name].chunk(0)) or digest(table.set_column(names.index(name), name, moved)) != digest(
            table
        )
    assert digest(table.slice(1)) != digest(table)
    assert digest(pa.concat_tables([table, table.slice(0, 1)])) != digest(table)
