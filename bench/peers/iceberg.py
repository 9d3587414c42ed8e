"""Apache Iceberg by PyIceberg, with its catalog in SQLite."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog

from bench.peers.contract import Place, run, with_plain_text


class Iceberg:
    """One append to a table."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:
        catalog = SqlCatalog(
            "bench", uri=f"sqlite:///{place.directory}/catalog.db", warehouse=f"file://{place.directory}"
        )
        catalog.create_namespace("bench")
        self._table = catalog.create_table("bench.measured", with_plain_text(schema.empty_table()).schema)

    def ingest(self, rows: pa.Table) -> None:
        self._table.append(with_plain_text(rows))

    def read_back(self) -> Iterable[pa.RecordBatch]:
        yield from self._table.scan().to_arrow_batch_reader()


if __name__ == "__main__":
    run(Iceberg)
