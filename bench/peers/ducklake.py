"""DuckLake with its catalog in Postgres, by DuckDB 1.5."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import duckdb
import duckdb_extension_ducklake
import duckdb_extension_postgres
import pyarrow as pa

from bench.peers.contract import CORES, Place, run


class DuckLake:
    """One INSERT into a lake of its own."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": CORES,
            "allow_unsigned_extensions": True,
            "preserve_insertion_order": False,
        }
        self._connection = duckdb.connect(config=config)
        self._load(duckdb_extension_ducklake, "ducklake")
        self._load(duckdb_extension_postgres, "postgres_scanner")
        catalog = f"ducklake:postgres:{place.postgres_dsn}".replace("'", "''")
        schema_name = f"lake_{uuid4().hex}"  # a lake of its own for every run
        self._connection.execute(
            f"ATTACH '{catalog}' AS lake (DATA_PATH '{place.directory}', METADATA_SCHEMA '{schema_name}')"
        )
        self._connection.register("empty", schema.empty_table())
        self._connection.execute("CREATE TABLE lake.measured AS SELECT * FROM empty")

    def ingest(self, rows: pa.Table) -> None:
        self._connection.register("incoming", rows)
        self._connection.execute("INSERT INTO lake.measured SELECT * FROM incoming")

    def read_back(self) -> Iterable[pa.RecordBatch]:
        stored: pa.RecordBatchReader = self._connection.execute("SELECT * FROM lake.measured").to_arrow_reader()
        yield from stored

    def _load(self, package: ModuleType, name: str) -> None:
        """Load an extension under the name that it must have, and that its file in the wheel may not have."""
        [wheel] = package.__path__
        with tempfile.TemporaryDirectory() as folder:
            named = Path(folder) / f"{name}.duckdb_extension"
            shutil.copyfile(next(Path(wheel).rglob("*.duckdb_extension")), named)
            self._connection.execute(f"LOAD '{named}'")


if __name__ == "__main__":
    run(DuckLake)
