"""What is in a data file, read whole: its bytes, and its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xxhash

from readers.file_reader import FileReader
from readers.plain import plain_schema
from readers.stamps import stamps, units_per_second
from storage.store import Store
from timestore.digest import PayloadDigest
from timestore.errors import error

_STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """The rows of a file, in short."""

    rows: int
    digest: str  # payload digest of the rows in their stored order
    min_ts_ns: int | None  # of the timestamp column; None without rows
    max_ts_ns: int | None


def read_checksum(store: Store, path: str) -> str:
    """Return the checksum of an object's bytes, as the catalog spells it; raises ``FileNotFoundError``."""
    hasher = xxhash.xxh3_128()
    with store.open(path) as stream:
        while step := stream.read(_STEP_BYTES):
            hasher.update(step)
    return f"xxh3:{hasher.hexdigest()}"


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


def local_file(store: Store, path: str) -> Path:
    """Return where a data file is on this machine; raises ``unsupported`` when it is elsewhere."""
    if (local := store.local_path(path)) is None:
        raise error("unsupported", f"the data file {path} is not on this machine, and cannot be read yet")
    return local
