"""A digest of rows that knows every value of every row, and no order: parallel streams have none.

It shares nothing with the payload digest of Timestore, which is among what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

Hashes = npt.NDArray[np.uint64]

_TWO_TO_64 = 1 << 64


class RowDigest:
    """Sums up a hash of each row. Columns are 64 bits wide or text, without nulls."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], columns: list[str]) -> RowDigest:
        """Digest batches, whose columns may come in any order."""
        digest = cls()
        for batch in batches:
            digest.update(batch, columns)
        return digest

    def update(self, batch: pa.RecordBatch, columns: list[str]) -> None:
        """Add the rows of a batch; raises ``ValueError`` for a null."""
        hashes = np.zeros(batch.num_rows, np.uint64)
        for name in columns:
            hashes = _mixed(hashes + _mixed(_bits(batch.column(name))))  # wraps, as it should
        self.rows += batch.num_rows
        self._sum = (self._sum + int(hashes.sum())) % _TWO_TO_64

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowDigest) and (self.rows, self._sum) == (other.rows, other._sum)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __str__(self) -> str:
        return f"{self.rows:,} rows, digest {self._sum:016x}"


def _bits(column: pa.Array) -> Hashes:
    if column.null_count:
        raise ValueError("there are nulls, where none were sent")
    if not pa.types.is_string(column.type):
        return np.asarray(column.view(pa.uint64()), np.uint64)
    encoded = column.dictionary_encode()
    values = [xxhash.xxh3_64_intdigest(text.encode()) for text in encoded.dictionary.to_pylist()]
    return np.array(values, np.uint64).take(np.asarray(encoded.indices, np.int64))


def _mixed(bits: Hashes) -> Hashes:
    """Spread every bit over all others (the finish of splitmix64)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
