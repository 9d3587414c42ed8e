"""What a contender is given to store, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bench.data import Shape, step_over_days
from bench.row_digest import RowDigest


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Data of one shape, in memory: making it is not what is timed. It fills ``days`` days, a window each."""

    shape: str
    days: int
    columns: list[str]
    batches: list[pa.RecordBatch]
    rows: int
    bytes: int  # of Arrow buffers
    digest: RowDigest

    @classmethod
    def make(cls, shape: Shape, rows: int, *, days: int = 1, shuffled: bool = False) -> Rows:
        """Make so many rows over so many days, in order of time or ``shuffled``."""
        batches = list(shape.batches(rows, step_us=step_over_days(rows, days), shuffled=shuffled))
        columns = batches[0].schema.names
        size = sum(batch.nbytes for batch in batches)
        digest = RowDigest.of(batches, columns)
        return cls(shape=shape.name, days=days, columns=columns, batches=batches, rows=rows, bytes=size, digest=digest)

    @property
    def schema(self) -> pa.Schema:
        """The schema of all batches."""
        return self.batches[0].schema

    def save(self, path: Path) -> None:
        """Write them as an Arrow IPC file, for a process that is to have the same."""
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self.schema) as writer:
            for batch in self.batches:
                writer.write_batch(batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Rows, and how they are to be stored: over how many streams, in which order policy."""

    rows: Rows
    streams: int = 1
    order: str = "ordered"

    @property
    def keeps_order(self) -> bool:
        """Whether what is read back must have the order in which it was sent."""
        return self.order == "ordered" and self.streams == 1
