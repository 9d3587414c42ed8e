"""Rows into Postgres itself: COPY in its binary form, through ADBC, one transaction."""

from __future__ import annotations

from collections.abc import Iterable

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa

from bench.peers.contract import Place, run, with_plain_text


class PostgresCopy:
    """One COPY into a table without an index."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:
        self._connection = adbc.connect(place.postgres_dsn)
        with self._connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS copy_measured")
            cursor.adbc_ingest("copy_measured", with_plain_text(schema.empty_table()), mode="create")
        self._connection.commit()

    def ingest(self, rows: pa.Table) -> None:
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest("copy_measured", with_plain_text(rows), mode="append")
        self._connection.commit()

    def read_back(self) -> Iterable[pa.RecordBatch]:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT * FROM copy_measured")
            yield from cursor.fetch_record_batch()


if __name__ == "__main__":
    run(PostgresCopy)
