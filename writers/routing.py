"""Which window each row belongs to. Works on batches: binary search where rows are sorted, one radix sort elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from readers.plain import take_batch
from readers.stamps import Timestamps
from timestore.errors import TimestoreError, error
from timestore.windows import TimeWindow, WindowLength

_SMALL = 2**15  # numpy sorts 16 bit integers by radix: much quicker


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedPiece:
    """The rows of a routed batch that lie in one window."""

    window: TimeWindow
    start: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedBatch:
    """A batch whose rows stand together by window, within each in the order in which they came."""

    batch: pa.RecordBatch
    pieces: list[RoutedPiece]


class Router:
    """Splits the batches of one put by window and counts the windows. Not thread safe."""

    def __init__(self, *, window: WindowLength, units_per_second: int, max_windows: int) -> None:
        self._window = window
        self._per_second = units_per_second
        self._max_windows = max_windows
        self._seen: set[TimeWindow] = set()

    def split(self, batch: pa.RecordBatch, stamps: Timestamps) -> RoutedBatch:
        """Split a batch with rows by the windows of its timestamps; raises ``too_many_windows``."""
        first = self._containing(int(stamps.min()))
        if int(stamps.max()) < first.end_s * self._per_second:
            self._count([first])
            return RoutedBatch(batch=batch, pieces=[RoutedPiece(window=first, start=0, rows=len(stamps))])
        if bool((stamps[1:] >= stamps[:-1]).all()):
            return self._split_sorted(batch, stamps, first)
        return self._split_unsorted(batch, stamps)

    def _split_sorted(self, batch: pa.RecordBatch, stamps: Timestamps, window: TimeWindow) -> RoutedBatch:
        pieces = []
        start, rows = 0, len(stamps)
        while True:
            self._count([window])
            end = int(np.searchsorted(stamps, window.end_s * self._per_second, side="left"))
            pieces.append(RoutedPiece(window=window, start=start, rows=end - start))
            if end == rows:
                return RoutedBatch(batch=batch, pieces=pieces)
            start, window = end, self._containing(int(stamps[end]))

    def _split_unsorted(self, batch: pa.RecordBatch, stamps: Timestamps) -> RoutedBatch:
        starts, ordinals = self._ordinals(stamps)
        windows = [self._window.containing(start_s) for start_s in starts]
        self._count(windows)
        counts = np.bincount(ordinals, minlength=len(windows)).tolist()
        pieces, start = [], 0
        for window, rows in zip(windows, counts, strict=True):
            pieces.append(RoutedPiece(window=window, start=start, rows=rows))
            start += rows
        order = np.argsort(ordinals, kind="stable")
        return RoutedBatch(batch=take_batch(batch, order), pieces=pieces)

    def _ordinals(self, stamps: Timestamps) -> tuple[list[int], npt.NDArray[np.integer]]:
        """Return the distinct windows' starts in seconds, ascending, and for each row the index of its window."""
        numbers = self._window_numbers(stamps)
        lowest, span = int(numbers.min()), int(numbers.max() - numbers.min())
        if span < _SMALL:
            relative = (numbers - lowest).astype(np.int16)
            present = np.flatnonzero(np.bincount(relative, minlength=span + 1))
            position = np.zeros(span + 1, dtype=np.int16)
            position[present] = np.arange(len(present), dtype=np.int16)
            return self._starts(present + lowest), position[relative]
        distinct, inverse = np.unique(numbers, return_inverse=True)
        if len(distinct) > self._max_windows:
            raise self._too_many(len(distinct))
        return self._starts(distinct), inverse.astype(np.int16 if len(distinct) < _SMALL else np.int64)

    def _window_numbers(self, stamps: Timestamps) -> Timestamps:
        """Return each row's window as a number: fixed ones counted from their anchor, calendar ones from 1970."""
        seconds = stamps // self._per_second
        if self._window.seconds:
            numbers: Timestamps = (seconds - self._window.anchor_s) // self._window.seconds
            return numbers
        months: Timestamps = seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
        return months // self._window.months

    def _starts(self, numbers: Timestamps) -> list[int]:
        if self._window.seconds:
            return [int(number) * self._window.seconds + self._window.anchor_s for number in numbers]
        months = (numbers * self._window.months).astype("datetime64[M]")
        return [int(start) for start in months.astype("datetime64[s]").astype(np.int64)]

    def _containing(self, stamp: int) -> TimeWindow:
        return self._window.containing(stamp // self._per_second)

    def _count(self, windows: list[TimeWindow]) -> None:
        self._seen.update(windows)
        if len(self._seen) > self._max_windows:
            raise self._too_many(len(self._seen))

    def _too_many(self, count: int) -> TimestoreError:
        return error(
            "too_many_windows",
            f"the put touches at least {count} windows of {self._window.text}, {self._max_windows} are allowed; "
            "split it by time, or create the dataset with a longer window",
            details={"windows": count, "limit": self._max_windows},
        )
