"""Files are for people with the DuckDB they have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import timestore
from readers.plain import plain_batch
from tests.fixtures.arrow_values import EXTENSIONS, KEYS, LEAVES, random_batches
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


COUNTS = """
import sys, duckdb
assert duckdb.__version__ == "1.5.5", duckdb.__version__
for path in sys.argv[1:]:
    with duckdb.connect(path, read_only=True) as connection:
        names = [name for (name,) in connection.execute("SELECT column_name FROM (DESCRIBE data)").fetchall()]
        counts = ", ".join(f'count("{name}"), count(hash("{name}"))' for name in names)
        values = connection.execute(f"SELECT {counts} FROM data").fetchone()
        print(*values[::2])
        assert all(seen == connection.execute("SELECT count(*) FROM data").fetchone()[0] for seen in values[1::2])
"""

needs_duckdb15 = pytest.mark.skipif(
    not DUCKDB15.exists(), reason="make test installs DuckDB 1.5.5 beside the environment"
)


def _run(script: str, paths: list[Path]) -> list[str]:
    """Run a script in a process that has DuckDB 1.5.5; the two versions cannot share one."""
    command = [sys.executable, "-S", "-c", script, *map(str, paths)]
    environment = same_user_environment() | {"PYTHONPATH": str(DUCKDB15)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()


@needs_duckdb15
def test_duckdb_1_5_reads_every_type(client: timestore.Client) -> None:
    """Each type that is stored, alone and nested, with extreme values: 1.5.5 reads every value, and counts as many."""
    types = [*LEAVES, *EXTENSIONS, pa.dictionary(pa.int8(), pa.string()), pa.run_end_encoded(pa.int16(), pa.int8())]
    nested = [pa.list_(each) for each in types] + [pa.map_(key, pa.list_(pa.float32(), 2)) for key in KEYS]
    nested += [pa.struct([("a", each), ("b", pa.large_list_view(each))]) for each in types]
    fields = [pa.field(f"c{position}", each) for position, each in enumerate([*types, *nested])]
    schema = pa.schema([pa.field("ts", pa.timestamp("us", "UTC"), nullable=False), *fields])
    [sent] = random_batches(schema, [500], np.random.default_rng(1))
    client.append("every", pa.Table.from_batches([sent]), create={"timestamp_column": "ts"})

    counted = [int(count) for count in _run(COUNTS, manifest_paths(client, "every"))]

    assert counted == [len(column) - column.null_count for column in plain_batch(sent).columns]


@needs_duckdb15
@pytest.mark.parametrize("rows", [10, 20_000])
def test_duckdb_1_5_opens_every_file(client: timestore.Client, rows: int) -> None:
    """DuckDB 1.5.5 opens any partition file, small or large, read-only, and finds the rows."""
    sent = cpu_table(rows)
    client.append("cpu", sent)
    paths = manifest_paths(client, "cpu")

    found = _run(SCRIPT, paths)

    assert set(found[::3]) == {"cpu"}
    assert sum(map(int, found[1::3])) == rows
    assert sum(map(int, found[2::3])) == sum(sent.column("errors").to_pylist())
