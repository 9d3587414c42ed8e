"""``timestore get`` and ``sql``: rows to the terminal, to programs and to files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest

import timestore as ts_client
from tests.fixtures.command_line import Run, run_process
from tests.fixtures.data import START, cpu_table

ROWS = cpu_table(20_000)


@pytest.fixture(name="filled")
def _filled(timestore: Run, client: ts_client.Client) -> Run:
    client.append("cpu", ROWS, key={"region": "eu"})
    return timestore


READERS = {
    "out.parquet": parquet.read_table,
    "out.arrow": feather.read_table,
    "out.arrows": lambda path: pa.ipc.open_stream(path.read_bytes()).read_all(),
}


@pytest.mark.parametrize("name", list(READERS))
def test_typed_files(filled: Run, tmp_path: Path, name: str) -> None:
    """Parquet and both forms of Arrow hold every row as it was sent."""
    filled("get", "cpu", "-o", str(tmp_path / name))

    assert READERS[name](tmp_path / name).equals(ROWS)
    assert [path.name for path in tmp_path.glob("out*")] == [name]


def test_csv_file_can_be_put_again(filled: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """What is written as CSV can be read as CSV into the same dataset, and is the same rows."""
    filled("get", "cpu", "-o", str(tmp_path / "out.csv"))
    assert csv.read_csv(tmp_path / "out.csv").num_rows == 20_000

    filled("put", str(tmp_path / "out.csv"), "--dataset", "cpu", "--key", "region=copy")

    assert client.read("cpu", key={"region": "copy"}).equals(ROWS)


def test_selection(filled: Run) -> None:
    """Columns, key, time range and version select rows; times are RFC 3339, in UTC unless told otherwise."""
    options = ["--columns", "ts,host", "--with-key", "--key", "region=eu", "--from", "2026-01-02T00:00:00+01:00"]
    options += ["--to", "2026-01-01T23:00:20Z"]

    assert filled("get", "cpu", *options, "--json").lines == [
        {"ts": f"2026-01-01T23:00:{second}.000000Z", "host": host, "region": "eu"}
        for second, host in (("00", "host-0"), ("10", "host-1"))
    ]
    paris = filled("get", "cpu", *options, "--json", "--tz", "Europe/Paris").lines
    assert paris[0]["ts"] == "2026-01-02T00:00:00.000000+01:00"
    assert filled("get", "cpu", "--version", "0", "--json").out == ""
    assert "version_not_found" in filled("get", "cpu", "--version", "7", code=4).err


def test_terminal_shows_the_first_rows(filled: Run) -> None:
    """Without a file the first rows are a table, and the rest is not hidden silently."""
    done = filled("get", "cpu", "--limit", "3")

    assert done.out.count("host-") == 3
    assert "more than 3 rows" in done.err


def test_sql(filled: Run, tmp_path: Path) -> None:
    """SQL gives rows like ``get``: a table, JSON lines, or a file; the query may come from standard input."""
    query = "SELECT region, count(*) AS n, min(ts) AS first FROM cpu GROUP BY ALL"

    assert filled("sql", query, "--json").lines == [
        {"region": "eu", "n": 20_000, "first": "2026-01-01T00:00:00.000000Z"}
    ]
    assert filled("sql", "-", "--json", stdin=query).lines[0]["n"] == 20_000
    assert "2026-01-01T01:00:00.000000+01:00" in filled("sql", query, "--tz", "Europe/Paris").out
    filled("sql", query, "-o", str(tmp_path / "out.parquet"))
    assert parquet.read_table(tmp_path / "out.parquet")["n"].to_pylist() == [20_000]


def test_sql_versions(filled: Run) -> None:
    """Versions by number and by time reach the query."""
    count = ("sql", "SELECT count(*) AS n FROM cpu", "--json")

    assert filled(*count, "--version", "0").lines == [{"n": 0}]
    assert filled(*count, "--version-of", "cpu=1").lines == [{"n": 20_000}]
    assert filled(*count, "--as-of", datetime.now(UTC).isoformat()).lines == [{"n": 20_000}]
    assert filled(*count, "--as-of", "2020-01-01T00:00:00Z").lines == [{"n": 0}]


def test_sql_that_fails(filled: Run) -> None:
    """A wrong query is refused by the server in one line; its limits can be set."""
    assert "query_invalid" in filled("sql", "SELEC 1", code=4).err
    assert "max_rows" in filled("sql", "FROM cpu", "--max-rows", "1", "--json", code=4).err
    assert "1 s" in filled("sql", "SELECT count(*) FROM range(1000000000000)", "--timeout", "1s", code=4).err


def test_every_kind_of_value_is_shown(timestore: Run) -> None:
    """Whatever SQL gives, the terminal and JSON can show it, and no digit of a number is lost."""
    query = (
        "SELECT 12345678901234567890::HUGEINT AS big, 1.10::DECIMAL(9, 2) AS money, 'x'::BLOB AS bytes, "
        "[1, NULL] AS l, {'a': DATE '2026-01-01'} AS s, MAP {'k': 1} AS m, TIME '12:00' AS t, INTERVAL 1 DAY AS i, "
        "NULL AS nothing, '[bold]' AS markup, uuid() AS id, 'nan'::DOUBLE AS nan"
    )

    [row] = timestore("sql", query, "--json").lines
    assert (row["big"], row["money"], row["bytes"]) == ("12345678901234567890", "1.10", "eA==")
    assert (row["s"], row["nan"]) == ({"a": "2026-01-01"}, "NaN")
    assert "[bold]" in timestore("sql", query).out


def test_failed_read_leaves_no_file(filled: Run, tmp_path: Path) -> None:
    """A result that fails after rows were written leaves the older file as it was, and no part of a new one."""
    target = tmp_path / "out.parquet"
    target.write_bytes(b"older")

    filled("sql", "FROM cpu", "--max-rows", "1", "-o", str(target), code=4)

    assert target.read_bytes() == b"older"
    assert [path.name for path in tmp_path.glob("out*")] == ["out.parquet"]


def test_standard_output_and_broken_pipes(filled: Run, server_url: str) -> None:
    """Rows go through a pipe in any format; a reader that leaves early ends the command without a traceback."""
    done = run_process("get", "cpu", "--columns", "ts", "-o", "-", "--format", "csv", "--url", server_url)
    assert done.out.splitlines()[:2] == ['"ts"', '"2026-01-01T00:00:00.000000Z"']
    assert "--format" in filled("get", "cpu", "-o", "-", code=2).err


def test_scaled_times(timestore: Run, client: ts_client.Client) -> None:
    """Nanoseconds keep all their digits; a time without a zone is shown without one."""
    client.append("t", pa.table({"ts": pa.array([START * 1_000 + 1], pa.timestamp("ns"))}))

    assert timestore("get", "t", "--json", "--tz", "Europe/Paris").lines == [{"ts": "2026-01-01T00:00:00.000000001"}]
    assert json.loads(timestore("sql", "FROM t", "--json").out) == {"ts": "2026-01-01T00:00:00.000000001"}
