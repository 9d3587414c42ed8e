"""ClickHouse in process (chDB), a MergeTree that fsyncs each part."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from chdb.session import Session

from bench.peers.contract import Place, run, with_plain_text

_TYPES = {pa.int64(): "Int64", pa.float64(): "Float64", pa.timestamp("us", "UTC"): "DateTime64(6, 'UTC')"}


class ChDB:
    """One INSERT into a MergeTree."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:
        self._session = Session(str(place.directory))
        self._session.query("CREATE DATABASE bench ENGINE = Atomic")
        columns = ", ".join(f"{field.name} {_TYPES.get(field.type, 'LowCardinality(String)')}" for field in schema)
        self._session.query(
            f"CREATE TABLE bench.measured ({columns}) ENGINE = MergeTree ORDER BY ts "
            "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
        )

    def ingest(self, rows: pa.Table) -> None:
        incoming = with_plain_text(rows)  # noqa: F841  # the query finds it by its name
        self._session.query("INSERT INTO bench.measured SELECT * FROM Python(incoming)")

    def read_back(self) -> Iterable[pa.RecordBatch]:
        answer = self._session.query("SELECT * FROM bench.measured", "ArrowStream")
        yield from pa.ipc.open_stream(answer.bytes())


if __name__ == "__main__":
    run(ChDB)
