"""The same few numbers of a dataset, taken in four ways that should agree."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

# Plain DuckDB, in a process that knows nothing of Timestore: each file is opened by itself, and only read.
DUCKDB_SCRIPT = """
import duckdb, json, sys

task = json.load(sys.stdin)
connection = duckdb.connect()
totals = [0, 0, 0]
for path in task["paths"]:
    quoted = path.replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS part (READ_ONLY)")
    numbers = connection.execute(
        f"SELECT count(*), count({task['column']}), coalesce(sum({task['column']}), 0) FROM part.data"
    ).fetchone()
    totals = [have + more for have, more in zip(totals, numbers)]
    connection.execute("DETACH part")
json.dump(totals, sys.stdout)
"""


class ReadBackError(Exception):
    """DuckDB could not read the files."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is compared: all rows, those where a column is known, and its sum."""

    rows: int
    known: int | None = None  # None where they cannot be told
    total: int | None = None


def numbers_of(table: pa.Table, column: str) -> Numbers:
    """Take the numbers of rows in memory."""
    values = table[column]
    return Numbers(table.num_rows, len(values) - values.null_count, pc.sum(values).as_py() or 0)


def numbers_in_files(paths: list[Path], column: str) -> Numbers:
    """Take the numbers out of data files, with DuckDB alone; raises ``ReadBackError``."""
    task = json.dumps({"paths": [str(path) for path in paths], "column": column})
    result = subprocess.run(
        [sys.executable, "-c", DUCKDB_SCRIPT], input=task, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise ReadBackError(f"DuckDB could not read the files:\n{result.stderr.strip()}")
    return Numbers(*json.loads(result.stdout))


def local_path(uri: str) -> Path | None:
    """Return the path of a manifest's ``file://`` URI; None if the file is not on this machine."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def same_rows(one: pa.Table, other: pa.Table) -> bool:
    """Say whether two tables have the same rows, every value of them, in whatever order."""
    keys = [(name, "ascending") for name in one.column_names]
    return bool(one.schema.equals(other.schema) and one.sort_by(keys).equals(other.sort_by(keys)))
