"""The demo, run as `make demo` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.opening import open_store
from tests.fixtures.files import read_with_duckdb
from tests.fixtures.object_stores import ObjectServer, TestBucket, environment_of
from tests.fixtures.server import same_user_environment

FLIGHTS = 336_776
WEATHER = 26_115
MAX_LINES = 60

MakeBucket = Callable[[ObjectServer], TestBucket]


def _run_demo(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "timestore_app.demo", "--data-dir", str(data_dir), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=110, env=same_user_environment()
    )


def _stored_rows(data_dir: Path) -> dict[Path, int]:
    files = sorted((data_dir / "data").rglob("*.duckdb"))
    return {path: read_with_duckdb(path, "SELECT count(*) AS n FROM file.data")["n"][0].as_py() for path in files}


@pytest.mark.timeout(240)
def test_demo_runs_twice(tmp_path: Path) -> None:
    """A first demo stores every row and shows a replay and a refusal; a second on the same directory adds nothing."""
    first = _run_demo(tmp_path / "demo")
    assert first.returncode == 0, first.stdout + first.stderr
    stored = _stored_rows(tmp_path / "demo")

    second = _run_demo(tmp_path / "demo")
    assert second.returncode == 0, second.stdout + second.stderr

    assert sum(stored.values()) == FLIGHTS + WEATHER
    assert _stored_rows(tmp_path / "demo") == stored
    assert f"rows added by this run: {FLIGHTS + WEATHER:,}" in first.stdout
    assert "rows added by this run: 0" in second.stdout
    assert len(re.findall(r"\breplayed *$", second.stdout, re.MULTILINE)) >= 4
    for run in (first, second):
        assert "the receipt of version 1, replayed" in run.stdout
        assert "refused, [idempotency_conflict]" in run.stdout
        assert " NO" not in run.stdout
        assert len(run.stdout.splitlines()) <= MAX_LINES
        assert "\x1b" not in run.stdout  # nobody looks at a terminal here


def _demo_in_a_bucket(
    server: ObjectServer, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = make_bucket(server)
    for name, value in environment_of(server).items():
        monkeypatch.setenv(name, value)
    run = _run_demo(tmp_path / "demo", "--storage-url", bucket.url)
    assert run.returncode == 0, run.stdout + run.stderr

    assert f"rows added by this run: {FLIGHTS + WEATHER:,}" in run.stdout
    assert " NO" not in run.stdout
    assert not (tmp_path / "demo" / "data").exists()
    stored = [each.path for each in open_store(bucket.url).list()]
    assert len([path for path in stored if path.endswith(".duckdb")]) > 20


@pytest.mark.timeout(240)
def test_demo_on_s3(
    seaweed: ObjectServer, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`make demo STORAGE_URL=s3://...` does all the same, with every file in the bucket."""
    _demo_in_a_bucket(seaweed, make_bucket, monkeypatch, tmp_path)


@pytest.mark.toolchain
@pytest.mark.timeout(240)
def test_demo_on_azure(
    azurite: ObjectServer, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`make demo STORAGE_URL=abfs://...` does all the same, with every file in the container."""
    _demo_in_a_bucket(azurite, make_bucket, monkeypatch, tmp_path)


def test_demo_says_why_the_server_did_not_start(tmp_path: Path) -> None:
    """A server that cannot start fails the demo at once, with the reason from the server's log."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "VERSION").write_text("999\n")

    run = _run_demo(tmp_path / "demo")

    assert run.returncode == 1
    assert "the server did not start" in run.stderr
    assert "999" in run.stderr
    assert "Traceback" not in run.stderr
