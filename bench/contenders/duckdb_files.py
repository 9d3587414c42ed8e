"""DuckDB alone, with none of Timestore's code: the best way known from Arrow to closed, fsynced files on all cores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.contenders import DUCKDB_ENUM_FILES, DUCKDB_FILES
from bench.data import DAY_US, TIMESTAMP_COLUMN
from bench.load import Load, Rows
from bench.measuring import CORES, Figures, own_cpu_s, timed_in_parallel
from bench.verify import check_stored
from timestore_app.settings import Settings

STORAGE_VERSION = str(Settings.model_fields["duckdb_storage_version"].default)

_Write = Callable[[duckdb.DuckDBPyConnection, pa.Table], None]


class DuckDBFiles:
    """An instance of one thread for each core; one window is cut into a file for each, of many each is a file."""

    durability = "each file fsynced"

    def __init__(self, *, folder: Path, enums: bool = False) -> None:
        self.name = DUCKDB_ENUM_FILES if enums else DUCKDB_FILES
        self._write: _Write = _write_enums if enums else _write_plain
        self._folder = folder
        self._connections = [_connect() for _ in range(CORES)]

    def fits(self, schema: pa.Schema) -> bool:
        """Whether this way differs from the plain one on such columns."""
        return self._write is _write_plain or bool(_dictionary_names(schema))

    def run(self, load: Load) -> Figures:
        """Write all rows, then read them back."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            tables = list(shares(load.rows))
            paths = [Path(folder) / f"{number}.duckdb" for number in range(len(tables))]
            figures = self._write_all(list(zip(tables, paths, strict=True)))
            check_stored(self.name, load, self._read(paths))
            size = sum(path.stat().st_blocks * 512 for path in paths)
        return {**figures, "disk_bytes": size}

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _write_all(self, files: list[tuple[pa.Table, Path]]) -> Figures:
        due: SimpleQueue[tuple[pa.Table, Path] | None] = SimpleQueue()
        for file in (*files, *[None] * CORES):
            due.put(file)

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            while (file := due.get()) is not None:
                self._write_file(connection, *file)

        cpu_before = own_cpu_s()
        seconds, _ = timed_in_parallel(work, self._connections)
        return {"seconds": seconds, "cpu_s": own_cpu_s() - cpu_before}

    def _write_file(self, connection: duckdb.DuckDBPyConnection, table: pa.Table, path: Path) -> None:
        connection.execute(f"ATTACH '{_quoted(path)}' AS file (STORAGE_VERSION '{STORAGE_VERSION}')")
        connection.register("incoming", table)
        self._write(connection, table)
        connection.unregister("incoming")
        connection.execute("DETACH file")
        _fsync((path, path.parent))

    def _read(self, paths: Iterable[Path]) -> Iterator[pa.RecordBatch]:
        connection = self._connections[0]
        for path in paths:
            connection.execute(f"ATTACH '{_quoted(path)}' AS file (READ_ONLY)")
            stored: pa.RecordBatchReader = connection.sql("SELECT * FROM file.data").to_arrow_reader()
            yield from stored
            connection.execute("DETACH file")


def shares(rows: Rows) -> Iterator[pa.Table]:
    """Cut rows by day if there are many, else into equal runs, one for each core."""
    table = pa.Table.from_batches(rows.batches)
    if rows.days == 1:
        step = -(-rows.rows // CORES)
        yield from (table.slice(start, step) for start in range(0, rows.rows, step))
        return
    days = np.asarray(pc.cast(table[TIMESTAMP_COLUMN], pa.int64())) // DAY_US
    if (np.diff(days) < 0).any():  # late rows at midnight
        by_day = np.argsort(days, kind="stable")
        table, days = table.take(by_day), days[by_day]
    bounds = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), rows.rows]
    yield from (table.slice(start, end - start) for start, end in pairwise(bounds))


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET wal_autocheckpoint = '1KB'")
    connection.execute("SET fsync_mode = 'NONE'")  # each file is fsynced once, when it is closed
    connection.execute("SET write_buffer_row_group_count = 1")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _write_plain(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> None:  # noqa: ARG001
    connection.execute("CREATE TABLE file.data AS SELECT * FROM incoming")


def _write_enums(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> None:
    for name in _dictionary_names(table.schema):
        values = ", ".join(
            f"'{_doubled(text)}'" for text in table[name].unify_dictionaries().chunk(0).dictionary.to_pylist()
        )
        connection.execute(f"CREATE TYPE file.{name}_values AS ENUM ({values})")
    casts = ", ".join(f"{name}::file.{name}_values AS {name}" for name in _dictionary_names(table.schema))
    connection.execute(f"CREATE TABLE file.data AS SELECT * REPLACE ({casts}) FROM incoming")


def _dictionary_names(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_dictionary(field.type)]


def _fsync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _quoted(path: Path) -> str:
    return _doubled(str(path))


def _doubled(text: str) -> str:
    return text.replace("'", "''")
