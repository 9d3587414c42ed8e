"""A digest of rows that knows every value of every row, by which what was read back is compared with what was sent.

It shares nothing with the payload digest of Timestore, which is among what is measured, and imports nothing but Arrow
and numpy: peers import it in environments of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_TWO_TO_64 = 1 << 64
_NULL = np.uint64(0x6E756C6C)  # no value of ours has these bits
_INSTANT = pa.timestamp("us", "UTC")


class RowDigest:
    """Sums up a hash of each row, with (``in_order``) and without regard to its place.

    Columns are timestamps, 64 bits wide, or text (plain or dictionary-encoded).
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0
        self._sum_in_order = 0

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], columns: list[str]) -> RowDigest:
        """Digest batches, whose columns may come in any order."""
        digest = cls()
        for batch in batches:
            digest.update(batch, columns)
        return digest

    def update(self, batch: pa.RecordBatch, columns: list[str]) -> None:
        """Add the rows of a batch."""
        hashes = np.zeros(batch.num_rows, np.uint64)
        for name in columns:
            hashes = _mixed(hashes + _mixed(_bits(batch.column(name))))  # wraps, as it should
        places = np.arange(self.rows, self.rows + batch.num_rows, dtype=np.uint64)
        self.rows += batch.num_rows
        self._sum = (self._sum + int(hashes.sum())) % _TWO_TO_64
        self._sum_in_order = (
            self._sum_in_order + int((hashes * (places * np.uint64(2) + np.uint64(1))).sum())
        ) % _TWO_TO_64

    def times(self, number: int) -> RowDigest:
        """Digest the same rows so many times over, in whatever order."""
        result = RowDigest()
        result.rows, result._sum = self.rows * number, self._sum * number % _TWO_TO_64
        return result

    @property
    def text(self) -> str:
        """The same for the same rows, in whatever order."""
        return f"{self._sum:016x}"

    @property
    def text_in_order(self) -> str:
        """The same for the same rows in the same order."""
        return f"{self._sum_in_order:016x}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowDigest) and (self.rows, self._sum) == (other.rows, other._sum)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __str__(self) -> str:
        return f"{self.rows:,} rows, digest {self.text}"


def _bits(column: pa.Array) -> Hashes:
    if not column.null_count:
        return _valid_bits(column)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    filler = pa.scalar(0, pa.int64()).cast(kind)
    return np.where(np.asarray(column.is_null()), _NULL, _valid_bits(column.cast(kind).fill_null(filler)))


def _valid_bits(column: pa.Array) -> Hashes:
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(_INSTANT)  # systems differ in how they name UTC, and in the unit
    elif not pa.types.is_int64(kind) and not pa.types.is_float64(kind):
        return _text_bits(column)
    return np.asarray(column.view(pa.uint64()), np.uint64)


def _text_bits(column: pa.Array) -> Hashes:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = [_hashed(text) for text in encoded.dictionary.to_pylist()]
    return np.array(values, np.uint64).take(np.asarray(encoded.indices, np.int64))


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(bits: Hashes) -> Hashes:
    """Spread every bit over all others (the finish of splitmix64)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
