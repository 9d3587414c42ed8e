"""``timestore catalog``: a catalog moves to another Postgres, and its data files stay its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.server import ServerProcess, same_user_environment

StartProcess = Callable[..., ServerProcess]


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "timestore_app", "catalog", *map(str, arguments)]
    return subprocess.run(command, env=same_user_environment(), capture_output=True, text=True, timeout=60, check=False)


def test_an_embedded_catalog_moves_to_a_new_postgres(server_process: StartProcess, tmp_path: Path) -> None:
    """Export, move the old Postgres away, import, start: everything is as before, and puts go on."""
    server = server_process()
    with timestore.connect(server.url) as client:
        receipt = client.append("cpu", cpu_table(100), idempotency_key="a")
    assert server.terminate() == 0
    archive = tmp_path / "catalog.zip"

    exported = _run("export", archive, "--data-dir", server.data_dir, "--json")
    assert exported.returncode == 0, exported.stderr
    facts: dict[str, Any] = json.loads(exported.stdout)
    (server.data_dir / "postgres").rename(tmp_path / "old-postgres")
    imported = _run("import", archive, "--data-dir", server.data_dir)

    assert imported.returncode == 0, imported.stderr
    assert facts["catalog_id"] in imported.stdout
    with timestore.connect(server.start().url) as client:
        assert client.read("cpu").equals(cpu_table(100))
        assert client.append("cpu", cpu_table(100), idempotency_key="a") == receipt.as_replay()
        assert client.append("cpu", cpu_table(1, offset=100)).version == 2


def test_a_running_server_is_in_the_way(server_process: StartProcess, tmp_path: Path) -> None:
    """While a server owns the directory nothing is exported, and the exit code says why."""
    server = server_process()

    refused = _run("export", tmp_path / "catalog.zip", "--data-dir", server.data_dir)

    assert (refused.returncode, "in use" in refused.stderr, "Traceback" in refused.stderr) == (3, True, False)
    assert not (tmp_path / "catalog.zip").exists()


def test_an_existing_catalog_is_kept(server_process: StartProcess, tmp_path: Path) -> None:
    """An import into a directory that has a catalog is refused, as is an export onto a file."""
    server = server_process()
    server.terminate()
    archive = tmp_path / "catalog.zip"
    assert _run("export", archive, "--data-dir", server.data_dir).returncode == 0

    again = _run("export", archive, "--data-dir", server.data_dir)
    onto = _run("import", archive, "--data-dir", server.data_dir)

    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    assert (onto.returncode, "has a catalog already" in onto.stderr) == (1, True)
