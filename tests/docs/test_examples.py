"""The examples do what they say, as programs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.documents import ROOT
from tests.fixtures.server import same_user_environment
from timestore.errors import KINDS
from timestore_app.service import Service

TIMEOUT_S = 60


def _start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(ROOT / "examples" / program), *map(str, arguments)],
        env=same_user_environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(program: str, *arguments: object, code: int = 0) -> str:
    process = _start(program, *arguments)
    printed, complaints = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == code, complaints
    assert "Traceback" not in complaints
    return printed + complaints


@pytest.fixture(name="csv_file")
def _csv_file(tmp_path: Path) -> Path:
    path = tmp_path / "june.csv"
    path.write_text("time,watts\n2026-06-01T00:00:10Z,42.0\n2026-06-01T00:00:00Z,41.5\n", encoding="utf-8")
    return path


def test_csv_is_appended_once(csv_file: Path, server_url: str, client: timestore.Client) -> None:
    """The same CSV file is stored once however often it is sent; a changed one is another append."""
    command = ("ingest_csv.py", "meters", csv_file, "--key", "site=12", "--url", server_url)

    assert "2 rows appended, version 1 of meters" in _run(*command)
    assert "2 rows were there already" in _run(*command)
    csv_file.write_text(csv_file.read_text(encoding="utf-8") + "2026-06-01T00:00:20Z,40\n", encoding="utf-8")
    assert "3 rows appended, version 2" in _run(*command)
    assert client.read("meters", with_key=True).column("site").to_pylist() == ["12"] * 5


def test_csv_without_times_is_explained(csv_file: Path, server_url: str) -> None:
    """A column that is not there, or has no times, ends the program with one line that names it."""
    command = ("ingest_csv.py", "meters", csv_file, "--url", server_url, "--time-column")

    assert "has no column 'when'" in _run(*command, "when", code=1)
    assert "'watts'" in _run(*command, "watts", code=1)


def test_plain_client_waits_for_its_server(tmp_path: Path, start_service: Callable[..., Service]) -> None:
    """A client without our library sends until there is a server, and gets the first receipt when it is run again."""
    pq.write_table(cpu_table(1_000), tmp_path / "rows.parquet")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    put = ("plain_flight_client.py", "cpu", tmp_path / "rows.parquet", "--idempotency-key", "upload-17")
    command = (*put, "--key", "region=eu", "--url", f"grpc://127.0.0.1:{port}")

    early = _start(*command)
    service = start_service(port=port)
    printed, complaints = early.communicate(timeout=TIMEOUT_S)
    again = json.loads(_run(*command))

    assert early.returncode == 0, complaints
    assert again == json.loads(printed) | {"replayed": True}
    with timestore.connect(service.url) as client:
        assert client.read("cpu").num_rows == 1_000


def test_plain_client_reports_what_repeating_cannot_help(tmp_path: Path, server_url: str) -> None:
    """A refusal ends it at once, with the kind of the error."""
    pq.write_table(pa.table({"usage": [1.0]}), tmp_path / "rows.parquet")
    command = ("plain_flight_client.py", "cpu", tmp_path / "rows.parquet", "--idempotency-key", "k", "--deadline", 600)
    began = time.monotonic()

    assert "(schema_mismatch)" in _run(*command, "--url", server_url, code=1)
    assert time.monotonic() - began < TIMEOUT_S


def test_four_codes_tell_what_may_be_repeated() -> None:
    """The rule that the examples and the page on retries go by is that of the table of errors."""
    repeated = {"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL"}

    assert {kind: spec.grpc.name in repeated for kind, spec in KINDS.items()} == {
        kind: spec.repeatable for kind, spec in KINDS.items()
    }


def test_backfill_goes_on_where_it_was_interrupted(tmp_path: Path, server_url: str, client: timestore.Client) -> None:
    """Files are appended once each over many streams; a bad one stops no other, and is appended once it is mended."""
    for number in range(6):
        file = tmp_path / f"site={number % 2}" / f"day{number}.parquet"
        file.parent.mkdir(exist_ok=True)
        pq.write_table(cpu_table(100, offset=100 * number), file)
    bad = tmp_path / "site=1" / "day7.parquet"
    pq.write_table(cpu_table(100, offset=700).drop_columns("ts"), bad)
    command = ("backfill.py", "cpu", tmp_path, "--streams", 3, "--url", server_url)

    first = _run(*command, code=1)
    pq.write_table(cpu_table(100, offset=700), bad)
    second = _run(*command)

    assert "6 files appended (600 rows), 0 were there already" in first
    assert "site=1/day7.parquet" in first
    assert "1 files appended (100 rows), 6 were there already" in second
    assert client.read("cpu", key={"site": "1"}).num_rows == 400
