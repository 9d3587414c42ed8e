"""Delta Lake by delta-rs: one transaction of its log."""

from __future__ import annotations

from collections.abc import Iterable

import deltalake
import pyarrow as pa

from bench.peers.contract import Place, run, with_plain_text


class DeltaRs:
    """One append to a table."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:
        self._path = str(place.directory / "table")
        deltalake.DeltaTable.create(self._path, with_plain_text(schema.empty_table()).schema)

    def ingest(self, rows: pa.Table) -> None:
        deltalake.write_deltalake(self._path, rows, mode="append")

    def read_back(self) -> Iterable[pa.RecordBatch]:
        yield from deltalake.DeltaTable(self._path).to_pyarrow_dataset().to_batches()


if __name__ == "__main__":
    run(DeltaRs)
