"""ArcticDB on LMDB."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from arcticdb import Arctic, OutputFormat

from bench.peers.contract import Place, run, with_plain_text

NAME = "measured"


class ArcticDB:
    """One symbol of one library."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:  # noqa: ARG002
        store = Arctic(f"lmdb://{place.directory}?map_size=64GB", output_format=OutputFormat.PYARROW)
        self._library = store.create_library("bench")
        self._library._nvs._set_allow_arrow_input()  # its only way to take Arrow as it is; pandas would be slower

    def ingest(self, rows: pa.Table) -> None:
        self._library.write(NAME, _in_nanoseconds(with_plain_text(rows)))

    def read_back(self) -> Iterable[pa.RecordBatch]:
        yield from self._library.read(NAME).data.to_batches()


def _in_nanoseconds(rows: pa.Table) -> pa.Table:
    """Turn the timestamps into the only kind that it takes."""
    fields = [
        field.with_type(pa.timestamp("ns", "UTC")) if pa.types.is_timestamp(field.type) else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


if __name__ == "__main__":
    run(ArcticDB)
