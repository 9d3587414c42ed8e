"""What a person sees who starts a server wrongly: one line that says what to do, and no secret."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.server import ServerProcess, same_user_environment, wait_until

SECRET = "do-not-print-me"


def _serve(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "timestore_app", "serve", "--data-dir", str(tmp_path / "d"), "--port", "0"]
    return subprocess.run(
        [*command, *arguments],
        env=same_user_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr + done.stdout
    last = done.stderr.strip().splitlines()[-1]
    for words in said:
        assert words in last


def test_port_in_use(tmp_path: Path, postgres_dsn: str) -> None:
    """A port that somebody else has is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _serve(tmp_path, "--catalog-dsn", postgres_dsn, "--catalog-schema", "port_in_use", "--port", port)

    _refused(done, 1, f"127.0.0.1:{port}", "--port 0")


@pytest.mark.parametrize(
    "dsn", [f"no dsn {SECRET}", f"postgresql://u:{SECRET}@127.0.0.1:1/x"], ids=["malformed", "nobody"]
)
def test_bad_dsn(tmp_path: Path, dsn: str) -> None:
    """A DSN that is malformed, or where nobody listens, is explained without its secret."""
    _refused(_serve(tmp_path, "--catalog-dsn", dsn), 1, "--catalog-dsn")


def test_wrong_password(tmp_path: Path, postgres_dsn: str) -> None:
    """A refused password says so."""
    dsn = make_conninfo(postgres_dsn, password=SECRET, passfile="/nonexistent")

    _refused(_serve(tmp_path, "--catalog-dsn", dsn), 1, "password authentication failed")


def test_settings_that_do_not_exist(tmp_path: Path) -> None:
    """An unknown setting in the environment or in the file, and a file that is no TOML, are usage errors."""
    unknown, broken = tmp_path / "unknown.toml", tmp_path / "broken.toml"
    unknown.write_text("prt = 1\n")
    broken.write_bytes(b"\xff = [")

    _refused(_serve(tmp_path, TIMESTORE_PRT="1"), 2, "TIMESTORE_PRT")
    _refused(_serve(tmp_path, "--config", str(unknown)), 2, "prt")
    _refused(_serve(tmp_path, "--config", str(broken)), 2, "broken.toml")
    _refused(_serve(tmp_path, "--config", str(tmp_path / "none.toml")), 2, "none.toml")
    assert not (tmp_path / "d").exists()


def test_settings_that_cannot_work(tmp_path: Path, postgres_dsn: str) -> None:
    """Values that would fail every put are refused at start."""
    catalog = ("--catalog-dsn", postgres_dsn, "--catalog-schema", "cannot_work")

    _refused(_serve(tmp_path, "--memory-budget", "1MiB"), 2, "memory_budget")
    _refused(_serve(tmp_path, *catalog, "--duckdb-storage-version", "v9.9.9"), 1, "DuckDB")
    _refused(_serve(tmp_path, *catalog, "--storage-url", f"s3://key:{SECRET}@bucket"), 1, "s3://")
    (tmp_path / "file").write_text("")
    _refused(_serve(tmp_path, *catalog, "--storage-url", str(tmp_path / "file" / "below")), 1, "storage")


def test_settings_from_every_source(tmp_path: Path, postgres_dsn: str) -> None:
    """Command line before environment before file before default."""
    config = tmp_path / "timestore.toml"
    config.write_text('catalog_schema = "file"\nduckdb_storage_version = "v0.0.1"\n')

    done = _serve(tmp_path, "--config", str(config), "--memory-budget", "1KiB", TIMESTORE_MEMORY_BUDGET="2GiB")
    _refused(done, 2, "memory_budget is 1024")
    done = _serve(
        tmp_path, "--config", str(config), "--catalog-dsn", postgres_dsn, TIMESTORE_DUCKDB_STORAGE_VERSION="v9.9.9"
    )
    _refused(done, 1, "v9.9.9")


def test_broken_log_fails_no_put(tmp_path: Path, postgres_dsn: str) -> None:
    """A server whose standard error nobody reads any more goes on: puts, refusals and shutdown work."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "timestore_app", "serve", "--data-dir", str(tmp_path / "d"), "--port", "0"]
    catalog = ["--catalog-dsn", postgres_dsn, "--catalog-schema", "broken_log"]
    server = subprocess.Popen([*command, *catalog], stdout=writing, stderr=writing, env=same_user_environment())
    os.close(writing)
    facts = tmp_path / "d" / "server.json"
    wait_until(facts.exists)
    os.close(reading)
    url = next(line for line in facts.read_text().splitlines() if '"url"' in line).split('"')[3]
    try:
        with timestore.connect(url) as client:
            assert client.append("cpu", cpu_table(10), idempotency_key="a").version == 1
            assert client.append("cpu", cpu_table(10), idempotency_key="a").replayed
            with pytest.raises(timestore.errors.ConflictError):
                client.append("cpu", cpu_table(9), idempotency_key="a")
    finally:
        server.terminate()
        assert server.wait(timeout=60) == 0


def test_only_our_own_staging_is_cleared(server_process: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """At start, what dead puts left is removed from staging; what is not ours stays."""
    staging = tmp_path / "process" / "staging"
    staging.mkdir(parents=True)
    left = staging / "01a209f9-4a04-795b-a5f5-f44ab83231f3.duckdb"
    left.write_bytes(b"half a file")
    (staging / "mine.txt").write_text("mine")

    server_process()

    assert not left.exists()
    assert (staging / "mine.txt").read_text() == "mine"
