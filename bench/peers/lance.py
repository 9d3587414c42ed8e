"""LanceDB: one version of a Lance dataset."""

from __future__ import annotations

from collections.abc import Iterable

import lancedb
import pyarrow as pa

from bench.peers.contract import Place, run


class LanceDB:
    """One append to a table."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:
        self._table = lancedb.connect(str(place.directory)).create_table("measured", schema=schema)

    def ingest(self, rows: pa.Table) -> None:
        self._table.add(rows)

    def read_back(self) -> Iterable[pa.RecordBatch]:
        yield from self._table.to_arrow().to_batches()


if __name__ == "__main__":
    run(LanceDB)
