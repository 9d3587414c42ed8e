"""Files are for people with the DuckDB they have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.files import manifest_paths
from tests.fixtures.server import same_user_environment

DUCKDB15 = Path(__file__).parents[2] / ".venv" / "duckdb15"

SCRIPT = """
import sys, duckdb
assert duckdb.__version__ == "1.5.5", duckdb.__version__
for path in sys.argv[1:]:
    with duckdb.connect(path, read_only=True) as connection:
        rows, total = connection.execute("SELECT count(*), sum(errors) FROM data").fetchone()
        [(dataset,)] = connection.execute("SELECT dataset FROM timestore_file").fetchall()
        print(dataset, rows, total)
"""


@pytest.mark.skipif(not DUCKDB15.exists(), reason="make test installs DuckDB 1.5.5 beside the environment")
@pytest.mark.parametrize("rows", [10, 20_000])
def test_duckdb_1_5_opens_every_file(client: timestore.Client, rows: int) -> None:
    """DuckDB 1.5.5 opens any partition file, small or large, read-only, and finds the rows."""
    sent = cpu_table(rows)
    client.append("cpu", sent)
    paths = manifest_paths(client, "cpu")

    command = [sys.executable, "-S", "-c", SCRIPT, *map(str, paths)]
    environment = same_user_environment() | {"PYTHONPATH": str(DUCKDB15)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    found = done.stdout.split()

    assert set(found[::3]) == {"cpu"}
    assert sum(map(int, found[1::3])) == rows
    assert sum(map(int, found[2::3])) == sum(sent.column("errors").to_pylist())
