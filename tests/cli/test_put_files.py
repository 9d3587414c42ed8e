"""``timestore put``: files of every format, exactly once, and nothing coerced."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest

import timestore as ts_client
from tests.fixtures.command_line import Run, run_process
from tests.fixtures.data import cpu_table

ROWS = cpu_table(1_000)


def _stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


WRITERS = {
    "rows.parquet": lambda path: parquet.write_table(ROWS, path),
    "rows.arrow": lambda path: feather.write_feather(ROWS, path, compression="lz4"),
    "rows.arrows": lambda path: _stream(ROWS, path),
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_typed_files(timestore: Run, client: ts_client.Client, tmp_path: Path, name: str) -> None:
    """Parquet and both forms of Arrow arrive as they are; the same command again adds nothing."""
    WRITERS[name](tmp_path / name)

    first = timestore("put", str(tmp_path / name), "--dataset", "cpu", "--key", "region=eu")
    again = timestore("put", str(tmp_path / name), "--dataset", "cpu", "--key", "region=eu", "--json").document

    assert "1,000 rows in cpu at version 1" in first.out
    assert (again["replayed"], again["version"]) == (True, 1)
    assert client.read("cpu").equals(ROWS)


def test_same_bytes_are_the_same_append(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """The default idempotency key is made of content and semantic key: not of the file's name."""
    for name in ("a.parquet", "b.parquet"):
        parquet.write_table(ROWS, tmp_path / name)

    lines = timestore(
        "put", str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"), "--dataset", "cpu", "--key", "s=1", "--json"
    ).lines
    other = timestore("put", str(tmp_path / "a.parquet"), "--dataset", "cpu", "--key", "s=2", "--json").document

    assert [line["replayed"] for line in lines] == [False, True]
    assert lines[0]["idempotency_key"] == lines[1]["idempotency_key"] != other["idempotency_key"]
    assert client.describe("cpu")["rows"] == 2_000


def test_standard_input(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """``-`` reads standard input, whose format must be said; it is the same append as the file."""
    parquet.write_table(ROWS, tmp_path / "a.parquet")
    body = (tmp_path / "a.parquet").read_bytes()

    timestore("put", "-", "--dataset", "cpu", "--format", "parquet", stdin=body)
    again = timestore("put", str(tmp_path / "a.parquet"), "--dataset", "cpu", "--json").document

    assert again["replayed"]
    refused = timestore("put", "-", "--dataset", "cpu", code=2, stdin=body)
    assert "--format" in refused.err


def test_pandas_parquet_leaves_its_metadata(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """What pandas writes about itself into a Parquet file is no part of the dataset."""
    frame = pd.DataFrame({"ts": pd.date_range("2026-01-01", periods=3, tz="UTC", unit="us"), "v": [1.0, 2.0, 3.0]})
    frame.to_parquet(tmp_path / "frame.parquet")

    timestore("put", str(tmp_path / "frame.parquet"), "--dataset", "v")

    assert not client.schema("v").metadata


CSV = """time,host,code,count,share,flag,note
2026-01-01T00:00:00Z,a,007,1,0.5,true,
2026-01-01T01:00:00.25+01:00,b,010,2,1,false,"x, y"
2026-01-01T00:00:02Z,c,,,,,NA
"""


def _put_csv(timestore: Run, path: Path, text: str, *options: str, code: int = 0) -> str:
    path.write_text(text)
    done = timestore("put", str(path), "--dataset", "d", "--timestamp-column", "time", *options, code=code)
    return done.err


def test_csv(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """Every column gets the narrowest type that loses nothing; an empty field is null, but in text it is empty."""
    _put_csv(timestore, tmp_path / "d.csv", CSV)

    assert client.read("d").to_pydict() == {
        "time": [datetime(2026, 1, 1, 0, 0, second, micro, UTC) for second, micro in ((0, 0), (0, 250_000), (2, 0))],
        "host": ["a", "b", "c"],
        "code": ["007", "010", ""],
        "count": [1, 2, None],
        "share": [0.5, 1.0, None],
        "flag": [True, False, None],
        "note": ["", "x, y", "NA"],
    }


def test_csv_with_said_types(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """A type that is said is taken, and texts that are said to mean null are null."""
    options = ("--type", "count=int16", "--type", "share=float32", "--null", "NA", "--type", "code=int64")

    refused = _put_csv(timestore, tmp_path / "d.csv", CSV.replace("007", "x7"), *options, code=1)
    assert "row 1 has 'x7' in column 'code'" in refused
    assert client.datasets() == []

    _put_csv(timestore, tmp_path / "d.csv", CSV, *options)
    schema = client.schema("d")
    assert [schema.field(name).type for name in ("count", "share", "code")] == [pa.int16(), pa.float32(), pa.int64()]
    assert client.read("d")["note"].to_pylist() == ["", "x, y", None]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "-2", "999999999999999999"], pa.int64()),
        (["1", "12345678901234567890"], pa.string()),
        (["1", "01"], pa.string()),
        (["+1"], pa.string()),
        (["-0"], pa.float64()),
        (["1", "1.50"], pa.float64()),
        (["0.8444218515250481", "1e300"], pa.float64()),
        (["1,5"], pa.string()),
        (["true", "1"], pa.string()),
        (["True"], pa.string()),
        (["nan"], pa.string()),
        (["2026-01-01"], pa.string()),
        ([" 1"], pa.string()),
    ],
)
def test_csv_guesses_lose_nothing(
    timestore: Run, client: ts_client.Client, tmp_path: Path, values: list[str], type_: pa.DataType
) -> None:
    """A guessed type never changes what a value says: what looks like an identifier or a date stays text."""
    lines = [f'2026-01-01T00:00:{place:02}Z,"{value}"' for place, value in enumerate(values)]
    _put_csv(timestore, tmp_path / "d.csv", "\n".join(["time,v", *lines]))

    assert client.schema("d").field("v").type == type_


def test_types_are_those_of_all_rows(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """The last row counts as the first: a number column with one text at the very end is text."""
    lines = [f"2026-01-01T00:00:00Z,{n}" for n in range(300_000)]
    _put_csv(timestore, tmp_path / "d.csv", "\n".join(["time,v", *lines, "2026-01-01T00:00:00Z,x"]))

    assert client.schema("d").field("v").type == pa.string()


def test_next_file_follows_the_dataset(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """A file whose values would look narrower is read in the types of the dataset, and its time column is known."""
    _put_csv(timestore, tmp_path / "a.csv", "time,v\n2026-01-01T00:00:00Z,0.5\n")
    (tmp_path / "b.csv").write_text("time,v\n2026-01-01T00:00:01Z,1\n")

    timestore("put", str(tmp_path / "b.csv"), "--dataset", "d")

    assert client.read("d")["v"].to_pylist() == [0.5, 1.0]
    (tmp_path / "c.csv").write_text("time,v\n2026-01-01T00:00:01Z,many\n")
    assert "'many'" in timestore("put", str(tmp_path / "c.csv"), "--dataset", "d", code=1).err


@pytest.mark.parametrize(
    ("text", "options", "instant"),
    [
        ("2026-07-01T12:00:00+02:00", (), "2026-07-01T10:00:00+00:00"),
        ("2026-07-01 12:00:00Z", (), "2026-07-01T12:00:00+00:00"),
        ("2026-07-01 12:00:00", ("--time-format", "iso"), "2026-07-01T12:00:00"),
        ("2026-07-01 12:00", ("--time-format", "iso", "--time-zone", "Europe/Paris"), "2026-07-01T10:00:00+00:00"),
        ("1782907200", ("--time-format", "s"), "2026-07-01T12:00:00+00:00"),
        ("1782907200250", ("--time-format", "ms"), "2026-07-01T12:00:00.250000+00:00"),
        ("01.07.2026 12:00", ("--time-format", "%d.%m.%Y %H:%M"), "2026-07-01T12:00:00"),
        (
            "01.07.2026 12:00",
            ("--time-format", "%d.%m.%Y %H:%M", "--time-zone", "America/New_York"),
            "2026-07-01T16:00:00+00:00",
        ),
    ],
)
def test_times_are_read_as_said(
    timestore: Run, client: ts_client.Client, tmp_path: Path, text: str, options: tuple[str, ...], instant: str
) -> None:
    """Every spelling of times is said explicitly, and means one instant; without a zone it stays without."""
    _put_csv(timestore, tmp_path / "d.csv", f"time,v\n{text},1\n", *options)

    assert client.read("d")["time"][0].as_py().isoformat() == instant


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("2026-07-01 12:00:00", (), "--time-format"),
        ("01/07/2026", (), "--time-format"),
        ("2026-10-25 02:30", ("--time-format", "iso", "--time-zone", "Europe/Paris"), "2026-10-25 02:30"),
        ("2026-03-29 02:30", ("--time-format", "iso", "--time-zone", "Europe/Paris"), "2026-03-29 02:30"),
        ("2026-13-01T00:00:00Z", (), "2026-13-01"),
    ],
)
def test_doubtful_times_are_refused(
    timestore: Run, client: ts_client.Client, tmp_path: Path, text: str, options: tuple[str, ...], said: str
) -> None:
    """A time without the offset that it needs, or that never was, or was twice, is named and refused."""
    assert said in _put_csv(timestore, tmp_path / "d.csv", f"time,v\n{text},1\n", *options, code=1)
    assert client.datasets() == []


def test_times_are_never_guessed(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """A file of text whose time column is not known is not read at all: the error says which option is missing."""
    (tmp_path / "d.csv").write_text("time,v\n2026-01-01T00:00:00Z,1\n")

    assert "--timestamp-column" in timestore("put", str(tmp_path / "d.csv"), "--dataset", "d", code=2).err


def test_json_lines(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """JSON lines keep the types of JSON; a field that is missing is null."""
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"time": "2026-01-01T00:00:00Z", "v": 1, "s": "007", "b": true}\n\n'
        '{"time": "2026-01-01T00:00:01Z", "v": 1.5, "x": 9007199254740993}\n'
    )

    timestore("put", str(path), "--dataset", "d", "--timestamp-column", "time")

    assert client.read("d").drop_columns(["time"]).to_pylist() == [
        {"v": 1.0, "s": "007", "b": True, "x": None},
        {"v": 1.5, "s": None, "b": None, "x": 9007199254740993},
    ]


@pytest.mark.parametrize("line", ['{"time": 1, "v": {"a": 1}}', "[1]", "{", '{"time": "x", "v": 1}'])
def test_json_lines_that_do_not_fit(timestore: Run, tmp_path: Path, line: str) -> None:
    """What is no row of plain values is refused in one line that names the file."""
    path = tmp_path / "d.jsonl"
    path.write_text(line + "\n")

    assert "d.jsonl" in timestore("put", str(path), "--dataset", "d", "--timestamp-column", "time", code=1).err


def test_files_that_cannot_be_read(timestore: Run, tmp_path: Path) -> None:
    """A file that is missing, of no known format, or not of the format it claims, is one line that says so."""
    (tmp_path / "x.parquet").write_bytes(b"no")
    (tmp_path / "x.dat").write_bytes(b"no")

    assert "x.parquet" in timestore("put", str(tmp_path / "x.parquet"), "--dataset", "d", code=1).err
    assert "--format" in timestore("put", str(tmp_path / "x.dat"), "--dataset", "d", code=1).err
    assert "none.parquet" in timestore("put", str(tmp_path / "none.parquet"), "--dataset", "d", code=1).err


def test_create_options(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """The options of creation arrive, durations and times with units and offsets."""
    csv.write_csv(pa.table({"t": ["2026-01-01T00:00:01Z", "2026-01-01T00:00:00Z"], "v": [1, 2]}), tmp_path / "d.csv")
    options = ["--timestamp-column", "t", "--window", "1h", "--order", "sort", "--evolution", "none"]
    options += ["--min", "2025-01-01T00:00:00+01:00", "--max", "2100-01-01T00:00:00Z", "--future-tolerance", "36500d"]
    options += ["--max-rows-per-put", "2", "--max-bytes", "10GiB", "--retention", "36500d"]

    timestore("put", str(tmp_path / "d.csv"), "--dataset", "d", *options)

    described = client.describe("d")
    assert [described[name] for name in ("window", "order", "evolution")] == ["1h", "sort", "none"]
    assert (described["min"], described["future_tolerance_s"]) == ("2024-12-31T23:00:00Z", 36_500 * 86_400)
    assert [described[name] for name in ("max_rows_per_put", "max_bytes", "retention")] == [2, 10 << 30, "36500d"]


def test_refusals_and_their_exit_codes(timestore: Run, tmp_path: Path) -> None:
    """Wrong usage is 2, what the server refuses 4, and the line names the idempotency key to repeat with."""
    parquet.write_table(ROWS, tmp_path / "a.parquet")
    parquet.write_table(ROWS.slice(1), tmp_path / "b.parquet")
    put = ("put", str(tmp_path / "a.parquet"), "--dataset", "cpu")
    timestore(*put, "--idempotency-key", "a")

    refused = timestore("put", str(tmp_path / "b.parquet"), "--dataset", "cpu", "--idempotency-key", "a", code=4)
    assert "idempotency_conflict" in refused.err
    assert "'a'" in refused.err
    for wrong in (("--key", "region"), ("--key", "a=1", "--key", "a=2"), ("--type", "a=b"), ("--time-format", "x")):
        timestore(*put, *wrong, code=2)
    timestore(*put, str(tmp_path / "b.parquet"), "--idempotency-key", "a", code=2)


def test_nobody_there(tmp_path: Path) -> None:
    """A server that cannot be reached is exit code 5, after the deadline and with one line."""
    parquet.write_table(ROWS, tmp_path / "a.parquet")

    done = run_process(
        "put", str(tmp_path / "a.parquet"), "--dataset", "d", "--url", "grpc://127.0.0.1:1", "--deadline", "500ms"
    )

    assert (done.code, done.out) == (5, "")
    assert "cannot be reached" in done.err
    assert len(done.err.strip().splitlines()) == 1
