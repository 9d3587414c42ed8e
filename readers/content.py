"""What is in a data file, read whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from readers.file_reader import FileReader
from readers.plain import plain_schema
from readers.stamps import stamps, units_per_second
from timestore.digest import PayloadDigest


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """The rows of a file, in short."""

    rows: int
    digest: str  # payload digest of the rows in their stored order
    min_ts_ns: int | None  # of the timestamp column; None without rows
    max_ts_ns: int | None


def read_content(reader: FileReader, path: Path, timestamp_column: str) -> FileContent:
    """Read every row of a data file; raises ``storage_unavailable`` or ``unsupported``."""
    facts = reader.facts(path)
    digest = PayloadDigest(plain_schema(facts.schema))
    scale = 1_000_000_000 // units_per_second(facts.schema.field(timestamp_column).type)
    extents: list[int] = []
    for batch in reader.batches(path, facts, facts.schema.names):
        digest.update(batch)
        if batch.num_rows:
            times = stamps(batch.column(timestamp_column))
            extents += (int(times.min()) * scale, int(times.max()) * scale)
    return FileContent(
        rows=digest.rows,
        digest=digest.finish(),
        min_ts_ns=min(extents, default=None),
        max_ts_ns=max(extents, default=None),
    )
