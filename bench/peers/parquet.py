"""Parquet by pyarrow, a file for each core, and a manifest row for each in Postgres."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from bench.peers.contract import CORES, Place, fsync_tree, run


class Parquet:
    """One transaction lists all files."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:  # noqa: ARG002
        self._directory = place.directory
        self._connection = psycopg.connect(place.postgres_dsn)
        self._connection.execute("DROP TABLE IF EXISTS parquet_manifest")
        self._connection.execute("CREATE TABLE parquet_manifest (path text PRIMARY KEY, rows bigint NOT NULL)")
        self._connection.commit()

    def ingest(self, rows: pa.Table) -> None:
        step = -(-rows.num_rows // CORES)
        parts = [rows.slice(start, step) for start in range(0, rows.num_rows, step)]
        paths = [self._directory / f"{number}.parquet" for number in range(len(parts))]
        with ThreadPoolExecutor(CORES) as threads:
            list(threads.map(_write, parts, paths))
        fsync_tree(self._directory)  # before the manifest lists them
        with self._connection.cursor() as cursor:
            listed = [(str(path), part.num_rows) for path, part in zip(paths, parts, strict=True)]
            cursor.executemany("INSERT INTO parquet_manifest VALUES (%s, %s)", listed)
        self._connection.commit()

    def read_back(self) -> Iterable[pa.RecordBatch]:
        for [path] in self._connection.execute("SELECT path FROM parquet_manifest").fetchall():
            yield from pq.ParquetFile(path).iter_batches()


def _write(part: pa.Table, path: Path) -> None:
    pq.write_table(part, path, compression="zstd")


if __name__ == "__main__":
    run(Parquet)
