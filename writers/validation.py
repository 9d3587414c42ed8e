"""Batch checks: everything is looked at before DuckDB sees it, because a hostile batch can crash the process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from readers.plain.sizes import TooLongError, plain_bytes
from readers.stamps import Timestamps, stamps, units_per_second
from timestore.datasets import DatasetSpec, Order
from timestore.errors import TimestoreError, error
from timestore.windows import EPOCH, MAX_INSTANT_S, MIN_INSTANT_S, format_instant
from writers.kept_bytes import kept_bytes
from writers.leniency import validate_fully

MESSAGE_OVERHEAD_BYTES = 1 << 20  # header and padding of a batch with as many columns as there may be


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """One bound of the timestamp column, in its unit."""

    value: int
    what: str


def check_arrow(batch: pa.RecordBatch, *, rows_before: int, max_batch_bytes: int) -> None:
    """Refuse a batch that is too large, as sent or once it is plain, or whose buffers are not what its types say.

    Raises ``batch_too_large`` or ``batch_invalid``. Nothing else may look at a batch before: not even its size can be
    asked for safely.
    """
    try:
        batch.validate()
        _check_size(batch.nbytes, max_batch_bytes, "has")
        _check_kept(batch, max_batch_bytes)
        validate_fully(batch)
        _check_size(plain_bytes(batch, limit=max_batch_bytes), max_batch_bytes, "has, without its encodings, about")
    except TooLongError as exc:
        raise _too_large("has more values than bytes are allowed:", f"over {max_batch_bytes}", max_batch_bytes) from exc
    except (pa.ArrowInvalid, pa.ArrowIndexError) as exc:
        raise error("batch_invalid", f"the batch after row {rows_before} is not valid Arrow data: {exc}") from exc


def _check_size(size: int, limit: int, has: str) -> None:
    if size > limit:
        raise _too_large(has, str(size), limit)


def _check_kept(batch: pa.RecordBatch, limit: int) -> None:
    if (kept := kept_bytes(batch)) > limit + MESSAGE_OVERHEAD_BYTES:
        raise error(
            "batch_too_large",
            f"a batch of {batch.nbytes} bytes keeps {kept} in memory, for its message had unused bytes or metadata; at "
            f"most {limit} are allowed: send buffers that are no longer than their rows need",
            details={"bytes": kept, "limit": limit},
        )


def _too_large(has: str, size: str, limit: int) -> TimestoreError:
    return error(
        "batch_too_large",
        f"a batch {has} {size} bytes, at most {limit} are allowed; send smaller batches "
        "(16 to 64 Ki rows are quickest)",
        details={"bytes": size, "limit": limit},
    )


class BatchValidator:
    """Checks the batches of one put, in order. Not thread safe.

    Raises ``batch_too_large``, ``batch_invalid``, ``timestamp_null``, ``timestamp_unordered`` or
    ``timestamp_out_of_bounds``; messages name the row, counted from 0 over the whole put. Whether all other values can
    be stored, ``StorableRows`` says.
    """

    def __init__(self, *, schema: pa.Schema, spec: DatasetSpec, max_batch_bytes: int) -> None:
        self._spec = spec
        self._max_batch_bytes = max_batch_bytes
        self._column = schema.get_field_index(spec.timestamp_column)
        self._per_second = units_per_second(schema.field(self._column).type)
        self.rows = 0
        self._previous: int | None = None

    def check(self, batch: pa.RecordBatch) -> Timestamps:
        """Check a batch and return its timestamps."""
        check_arrow(batch, rows_before=self.rows, max_batch_bytes=self._max_batch_bytes)
        times = self._timestamps(batch)
        if len(times):
            self._check_bounds(times)
            if self._spec.order is Order.ORDERED:
                self._check_order(times)
        self.rows += batch.num_rows
        return times

    def _timestamps(self, batch: pa.RecordBatch) -> Timestamps:
        column = batch.column(self._column)
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            raise error(
                "timestamp_null",
                f"row {self.rows + row}: the timestamp column {self._spec.timestamp_column!r} is null",
                details={"row": self.rows + row, "column": self._spec.timestamp_column},
            )
        return stamps(column)

    def _check_bounds(self, times: Timestamps) -> None:
        lowest, highest = int(times.min()), int(times.max())
        lower, upper = self._lower(), self._upper()
        if lowest < lower.value:
            raise self._out_of_bounds(times, int((times < lower.value).argmax()), f"before {lower.what}")
        if highest >= upper.value:
            raise self._out_of_bounds(times, int((times >= upper.value).argmax()), f"not before {upper.what}")

    def _lower(self) -> _Limit:
        limits = [_Limit(value=MIN_INSTANT_S * self._per_second, what="the year 3, the first that can be stored")]
        if (bound := self._spec.bounds.min) is not None:
            limits.append(self._limit(bound, "the dataset's min"))
        return max(limits, key=lambda limit: limit.value)

    def _upper(self) -> _Limit:
        limits = [_Limit(value=MAX_INSTANT_S * self._per_second, what="the year 9998, the first that cannot be stored")]
        if (bound := self._spec.bounds.max) is not None:
            limits.append(self._limit(bound, "the dataset's max"))
        if (tolerance_s := self._spec.bounds.future_tolerance_s) is not None:
            latest = EPOCH + timedelta(seconds=min(time.time() + tolerance_s, MAX_INSTANT_S))
            limits.append(self._limit(latest, f"now and the future tolerance of {tolerance_s:g} s"))
        return min(limits, key=lambda limit: limit.value)

    def _limit(self, moment: datetime, what: str) -> _Limit:
        microseconds = (moment - EPOCH) // timedelta(microseconds=1)
        return _Limit(value=-(-microseconds * self._per_second // 1_000_000), what=f"{what} ({format_instant(moment)})")

    def _check_order(self, times: Timestamps) -> None:
        if self._previous is not None and times[0] < self._previous:
            raise self._unordered(0, int(times[0]), self._previous)
        falls = times[1:] < times[:-1]
        if falls.any():
            row = int(falls.argmax()) + 1
            raise self._unordered(row, int(times[row]), int(times[row - 1]))
        self._previous = int(times[-1])

    def _unordered(self, row: int, value: int, previous: int) -> TimestoreError:
        shown, before = self._shown(value), self._shown(previous)
        return error(
            "timestamp_unordered",
            f"row {self.rows + row}: {self._spec.timestamp_column!r} is {shown}, but the row before has {before}; "
            "sort the rows, or create the dataset with order: sort",
            details={"row": self.rows + row, "value": shown, "previous": before},
        )

    def _out_of_bounds(self, times: Timestamps, row: int, where: str) -> TimestoreError:
        shown = self._shown(int(times[row]))
        return error(
            "timestamp_out_of_bounds",
            f"row {self.rows + row}: {self._spec.timestamp_column!r} is {shown}, {where}",
            details={"row": self.rows + row, "value": shown},
        )

    def _shown(self, value: int) -> str:
        """Spell a timestamp as RFC 3339 with all its digits; as a number where no calendar reaches."""
        seconds, fraction = divmod(value, self._per_second)
        if not MIN_INSTANT_S <= seconds < MAX_INSTANT_S:
            return f"{value} (since 1970, in 1/{self._per_second} s)"
        digits = f".{fraction:0{len(str(self._per_second)) - 1}d}" if fraction else ""
        return format_instant(EPOCH + timedelta(seconds=seconds)).replace("Z", f"{digits}Z")
