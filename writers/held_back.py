"""The newest batches of a stream, kept out of the buffers. Small ones are joined: each would cost the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from readers.stamps import Timestamps
from writers.kept_bytes import kept_bytes

ENOUGH_ROWS = 8_192
ENOUGH_BYTES = 1 << 20
ENOUGH_BATCHES = 1_024
BATCH_OVERHEAD_BYTES = 2_048  # what a batch and each of its columns take besides their buffers, about
COLUMN_OVERHEAD_BYTES = 512


class HeldBack:
    """The newest batches of one put, in order."""

    def __init__(self) -> None:
        self.rows = 0
        self._batches: list[pa.RecordBatch] = []
        self._stamps: list[Timestamps] = []
        self._bytes = 0

    @property
    def is_enough(self) -> bool:
        """Say whether these batches are worth routing."""
        return self.rows >= ENOUGH_ROWS or self._bytes >= ENOUGH_BYTES or len(self._batches) >= ENOUGH_BATCHES

    def add(self, batch: pa.RecordBatch, stamps: Timestamps, size: int) -> None:
        """Hold a batch with its timestamps and the bytes that are counted for it."""
        self._batches.append(batch)
        self._stamps.append(stamps)
        self.rows += batch.num_rows
        self._bytes += size

    def take(self) -> tuple[pa.RecordBatch, Timestamps, int]:
        """Take everything as one batch, with its timestamps and the bytes that are counted for it."""
        batches, stamps, size = self._batches, self._stamps, self._bytes
        self._batches, self._stamps, self.rows, self._bytes = [], [], 0, 0
        if len(batches) == 1:
            return batches[0], stamps[0], size
        return pa.concat_batches(batches), np.concatenate(stamps), size


def held_bytes(batch: pa.RecordBatch) -> int:
    """Return what a batch is counted for: all that it keeps in memory, and what Arrow and Python need to hold it."""
    columns: int = batch.num_columns
    return kept_bytes(batch) + BATCH_OVERHEAD_BYTES + COLUMN_OVERHEAD_BYTES * columns
