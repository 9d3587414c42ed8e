"""Validation: what a batch may hold, and that a refusal names the row."""

import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timestore.datasets import Bounds, DatasetSpec, Order
from timestore.errors import InvalidInputError
from timestore.windows import MAX_INSTANT_S, MIN_INSTANT_S, UNITS_PER_SECOND, WindowLength
from writers.validation import BatchValidator

INT64 = 2**63
UNITS = sorted(UNITS_PER_SECOND)
OUTSIDE, UNORDERED = "timestamp_out_of_bounds", "timestamp_unordered"


def _stamps(values: Sequence[int | None], unit: str = "us", tz: str | None = None) -> pa.Array:
    return pa.array(values, pa.int64()).view(pa.timestamp(unit, tz))


def _batch(values: Sequence[int | None], unit: str = "us", **columns: pa.Array) -> pa.RecordBatch:
    return pa.record_batch({"ts": _stamps(values, unit), **columns})


def _validator(
    schema: pa.Schema, *, order: Order = Order.ANY, max_batch_bytes: int = 1 << 20, **bounds: Any
) -> BatchValidator:
    spec = DatasetSpec(
        name="cpu",
        incarnation=UUID(int=1),
        timestamp_column="ts",
        window=WindowLength.parse("1d"),
        order=order,
        bounds=Bounds(**bounds),
    )
    return BatchValidator(schema=schema, spec=spec, max_batch_bytes=max_batch_bytes)


def _refused(validator: BatchValidator, batch: pa.RecordBatch, kind: str) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        validator.check(batch)
    assert caught.value.kind == kind
    return caught.value


# --- order ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=5))
def test_order_is_checked_within_and_across_batches(batches: list[list[int]]) -> None:
    """In an ordered dataset the first row that falls is named, counted over the put, with the value before it."""
    validator = _validator(_batch([]).schema, order=Order.ORDERED)
    rows = [value for batch in batches for value in batch]
    falls = [row for row in range(1, len(rows)) if rows[row] < rows[row - 1]]
    refusal = None
    try:
        for batch in batches:
            assert validator.check(_batch([*batch])).tolist() == batch
    except InvalidInputError as exc:
        refusal = exc
    if not falls:
        assert refusal is None
        assert validator.rows == len(rows)
        return
    assert refusal is not None
    shown = [f"1970-01-01T00:00:00{f'.00000{value}' if value else ''}Z" for value in rows]
    assert (refusal.kind, refusal.details) == (
        UNORDERED,
        {"row": str(falls[0]), "value": shown[falls[0]], "previous": shown[falls[0] - 1]},
    )


@pytest.mark.parametrize("order", [Order.SORT, Order.ANY])
def test_other_datasets_take_any_order(order: Order) -> None:
    """``sort`` and ``any`` take rows as they come."""
    validator = _validator(_batch([]).schema, order=order)
    assert validator.check(_batch([3, 1])).tolist() == [3, 1]
    assert validator.check(_batch([2])).tolist() == [2]


def test_an_empty_batch_does_not_reset_the_order() -> None:
    """The row before is the last there was, whatever empty batches lie between."""
    validator = _validator(_batch([]).schema, order=Order.ORDERED)
    validator.check(_batch([5]))
    validator.check(_batch([]))
    assert _refused(validator, _batch([4]), UNORDERED).details["row"] == "1"


def test_a_sliced_batch_is_read_from_its_offset() -> None:
    """Stamps of a slice are the slice's."""
    batch = _batch([9, 1, 2, 0]).slice(1, 2)
    assert _validator(batch.schema, order=Order.ORDERED).check(batch).tolist() == [1, 2]


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_min_is_included_and_max_is_not(unit: str) -> None:
    """A dataset's bounds hold to the unit: ``min`` itself may come, ``max`` itself may not."""
    bounds: dict[str, Any] = {"min": datetime(2026, 1, 1, tzinfo=UTC), "max": datetime(2026, 1, 2, tzinfo=UTC)}
    first, after = (1_767_225_600 + day * 86_400 for day in (0, 1))
    per_second = UNITS_PER_SECOND[unit]
    schema = _batch([], unit).schema
    inside = [first * per_second, after * per_second - 1]
    assert _validator(schema, **bounds).check(_batch([*inside], unit)).tolist() == inside
    for row, value in enumerate([inside[0] - 1, inside[1] + 1]):
        refusal = _refused(_validator(schema, **bounds), _batch([inside[0]] * row + [value], unit), OUTSIDE)
        assert refusal.details["row"] == str(row)


@settings(deadline=None)
@given(unit=st.sampled_from(UNITS), micros=st.integers(-(10**6), 10**6), offset=st.integers(-2, 2), upper=st.booleans())
def test_bounds_between_two_stamps_are_exact(unit: str, micros: int, offset: int, upper: bool) -> None:
    """A bound in microseconds is compared exactly with stamps of any unit, coarser or finer."""
    bound = datetime(1970, 1, 1, tzinfo=UTC) + (datetime.resolution * micros)
    per_second = UNITS_PER_SECOND[unit]
    value = micros * per_second // 10**6 + offset
    before = value * 10**6 < micros * per_second
    bounds: dict[str, Any] = {"max" if upper else "min": bound}
    validator = _validator(_batch([], unit).schema, **bounds)
    if before == upper:
        assert validator.check(_batch([value], unit)).tolist() == [value]
    else:
        _refused(validator, _batch([value], unit), OUTSIDE)


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_years_without_a_name_are_refused(unit: str) -> None:
    """Rows lie in the years 3 to 9997, whatever the dataset says or does not say."""
    per_second = UNITS_PER_SECOND[unit]
    first, last = MIN_INSTANT_S * per_second, MAX_INSTANT_S * per_second - 1
    schema = _batch([], unit).schema
    wide: dict[str, Any] = {"min": datetime.min.replace(tzinfo=UTC), "max": datetime.max.replace(tzinfo=UTC)}
    bounds: dict[str, Any]
    for bounds in ({}, wide):
        assert _validator(schema, **bounds).check(_batch([first, last], unit)).tolist() == [first, last]
        for value in (first - 1, last + 1):
            _refused(_validator(schema, **bounds), _batch([value], unit), OUTSIDE)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("value", [-INT64, INT64 - 1])
def test_the_extremes_of_int64_never_break(unit: str, value: int) -> None:
    """The largest numbers there are give stamps or a refusal; nanoseconds always lie in a year with a name."""
    validator = _validator(_batch([], unit).schema)
    if unit == "ns":
        assert validator.check(_batch([value], unit)).tolist() == [value]
    else:
        _refused(validator, _batch([value], unit), OUTSIDE)


@pytest.mark.parametrize(
    "bounds", [{"min": datetime(2300, 1, 1, tzinfo=UTC)}, {"max": datetime(1600, 1, 1, tzinfo=UTC)}]
)
def test_bounds_that_nanoseconds_cannot_spell(bounds: dict[str, Any]) -> None:
    """A bound beyond 64 bits of nanoseconds refuses what it should, without wrapping around."""
    _refused(_validator(_batch([], "ns").schema, **bounds), _batch([0], "ns"), OUTSIDE)


def test_rows_of_the_future_are_refused_beyond_the_tolerance() -> None:
    """Rows may be so far after the server's clock, and no further."""
    now = int(time.time())
    schema = _batch([], "s").schema
    assert len(_validator(schema, future_tolerance_s=3_600).check(_batch([now, now + 1_800], "s"))) == 2
    refusal = _refused(_validator(schema, future_tolerance_s=3_600), _batch([now, now + 86_400], "s"), OUTSIDE)
    assert refusal.details["row"] == "1"


@pytest.mark.parametrize("tolerance_s", [1e12, 1e15])
def test_a_tolerance_beyond_all_calendars_is_none(tolerance_s: float) -> None:
    """The largest tolerance that a dataset can be created with does not break its puts."""
    assert _validator(_batch([]).schema, future_tolerance_s=tolerance_s).check(_batch([5])).tolist() == [5]


def test_a_refused_row_is_shown_with_all_its_digits() -> None:
    """The message has the value as an instant, down to its unit, and the bound."""
    validator = _validator(_batch([], "ns").schema, max=datetime(1970, 1, 1, tzinfo=UTC))
    assert "1970-01-01T00:00:00.000000001Z" in str(_refused(validator, _batch([1], "ns"), OUTSIDE))


DATES = [pa.date32(), pa.date64()]


def _days(values: Sequence[int | None], type_: pa.DataType) -> pa.RecordBatch:
    """A batch of days since 1970."""
    return pa.record_batch({"ts": pa.array(values, pa.int32()).cast(pa.date32()).cast(type_)})


@pytest.mark.parametrize("type_", DATES, ids=str)
def test_dates_are_ordered_and_bounded_like_timestamps(type_: pa.DataType) -> None:
    """A date is the instant at which it begins: order, bounds and nulls hold for it, and the row is named with it."""
    schema = _days([], type_).schema
    bounds: dict[str, Any] = {"min": datetime(1970, 1, 2, tzinfo=UTC), "max": datetime(1970, 1, 3, 1, tzinfo=UTC)}
    ordered = _validator(schema, order=Order.ORDERED)
    ordered.check(_days([3], type_))
    unordered = _refused(ordered, _days([3, 2], type_), UNORDERED)
    assert unordered.details == {"row": "2", "value": "1970-01-03T00:00:00Z", "previous": "1970-01-04T00:00:00Z"}
    assert len(_validator(schema, **bounds).check(_days([1, 2], type_))) == 2
    for day in (0, 3):
        assert _refused(_validator(schema, **bounds), _days([1, day], type_), OUTSIDE).details["row"] == "1"
    assert _refused(_validator(schema), _days([1, None], type_), "timestamp_null").details["row"] == "1"


@pytest.mark.parametrize("day", [-718_432, 2_932_166])
def test_the_first_and_last_day_are_taken(day: int) -> None:
    """The years 3 to 9997 hold for dates too."""
    batch = _days([day], pa.date32())
    assert _validator(batch.schema).check(batch).tolist() == [day * 86_400]


@pytest.mark.parametrize("day", [-(2**31), -718_433, 2_932_167, 2**31 - 1])
def test_dates_of_years_without_a_name_are_refused(day: int) -> None:
    """No other date is taken, up to the last one that 32 bits can name."""
    _refused(_validator(_days([], pa.date32()).schema), _days([day], pa.date32()), OUTSIDE)


def test_a_date64_within_a_day_is_the_instant_that_it_says() -> None:
    """Milliseconds that are no whole number of days are taken as they are: nothing is rounded."""
    batch = pa.record_batch({"ts": pa.array([1], pa.int64()).view(pa.date64())})
    assert _validator(batch.schema).check(batch).tolist() == [1]


@pytest.mark.parametrize("unit", UNITS)
def test_bounds_hold_to_the_last_digit(unit: str) -> None:
    """A bound with microseconds: the last stamp before it is refused or taken, in each unit, to the nanosecond."""
    bound = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    per_second = UNITS_PER_SECOND[unit]
    first = -(-(1_767_225_600 * 10**6 + 1) * per_second // 10**6)  # the first stamp that is not before the bound
    schema = _batch([], unit).schema
    assert _validator(schema, min=bound).check(_batch([first], unit)).tolist() == [first]
    _refused(_validator(schema, min=bound), _batch([first - 1], unit), OUTSIDE)
    assert _validator(schema, max=bound).check(_batch([first - 1], unit)).tolist() == [first - 1]
    refusal = _refused(_validator(schema, max=bound), _batch([first], unit), OUTSIDE)
    if unit == "ns":
        assert refusal.details["value"] == "2026-01-01T00:00:00.000001000Z"


@pytest.mark.parametrize("gap", [0, 1, 5])
def test_the_row_before_may_be_batches_ago(gap: int) -> None:
    """Between a row and the one before it there may be any number of empty batches, in any unit."""
    for unit in UNITS:
        validator = _validator(_batch([], unit).schema, order=Order.ORDERED)
        validator.check(_batch([1, 7], unit))
        for _ in range(gap):
            validator.check(_batch([], unit))
        refusal = _refused(validator, _batch([6, 8], unit), UNORDERED)
        assert refusal.details["row"] == "2"
        assert refusal.details["previous"] > refusal.details["value"]


# --- nulls ----------------------------------------------------------------------------------------------------------


def test_a_null_timestamp_is_named() -> None:
    """The first row without a timestamp is named, counted over the put."""
    validator = _validator(_batch([]).schema)
    validator.check(_batch([1, 2]))
    refusal = _refused(validator, _batch([3, None, None]), "timestamp_null")
    assert refusal.details == {"row": "3", "column": "ts"}


def test_a_slice_without_its_nulls_is_fine() -> None:
    """Nulls outside a slice are not the slice's."""
    batch = _batch([None, 1, 2, None]).slice(1, 2)
    assert _validator(batch.schema).check(batch).tolist() == [1, 2]


# --- size and hostile bytes -----------------------------------------------------------------------------------------


def test_a_batch_that_is_too_large_is_refused() -> None:
    """The refusal has the size and the limit."""
    batch = _batch([1] * 100)
    assert len(_validator(batch.schema, max_batch_bytes=800).check(batch)) == 100
    refusal = _refused(_validator(batch.schema, max_batch_bytes=799), batch, "batch_too_large")
    assert refusal.details == {"bytes": "800", "limit": "799"}


def _text(offsets: list[int], content: bytes, data_type: pa.DataType = pa.string()) -> pa.Array:  # noqa: B008 - a value
    width = np.int64 if data_type == pa.large_string() else np.int32
    buffers = [None, pa.py_buffer(np.array(offsets, width).tobytes()), pa.py_buffer(content)]
    return pa.Array.from_buffers(data_type, len(offsets) - 1, buffers)


@pytest.mark.parametrize(
    "hostile",
    [
        _text([0, 2**30, 3], b"abc"),
        _text([0, -5, 3], b"abc"),
        _text([0, 3, 1], b"abc"),
        _text([0, 1, 2], b"\xff\xfe"),
        _text([0, 1, 2], b"\xc3\xa4"),
        _text([0, 2**40, 3], b"abc", pa.large_string()),
    ],
    ids=["beyond", "negative", "falling", "not utf-8", "cut character", "far beyond"],
)
def test_hostile_texts_are_refused(hostile: pa.Array) -> None:
    """Offsets that point anywhere and bytes that are not UTF-8 are ``batch_invalid``: DuckDB never sees them."""
    batch = pa.record_batch({"ts": _stamps([1, 2]), "x": hostile})
    _refused(_validator(batch.schema), batch, "batch_invalid")


def test_a_refused_batch_says_after_which_row_it_came() -> None:
    """A client that sends many batches learns which was bad."""
    validator = _validator(pa.schema([("ts", pa.timestamp("us")), ("x", pa.string())]))
    validator.check(_batch([1, 2, 3], x=pa.array(["a", "b", None])))
    assert "after row 3" in str(_refused(validator, _batch([4], x=_text([0, 1], b"\xff")), "batch_invalid"))


def test_a_buffer_may_be_longer_than_its_values() -> None:
    """IPC may pad a buffer to any length; only the values count."""
    column = pa.Array.from_buffers(pa.timestamp("us"), 1, [None, pa.py_buffer(b"\x01" + b"\0" * 11)])
    batch = pa.record_batch({"ts": column})
    assert _validator(batch.schema).check(batch).tolist() == [1]


LYING_LENGTHS = """
import struct, uuid
import pyarrow as pa
from timestore.datasets import DatasetSpec
from timestore.errors import TimestoreError
from timestore.windows import WindowLength
from writers.validation import BatchValidator

spec = DatasetSpec(name="d", incarnation=uuid.uuid4(), timestamp_column="ts", window=WindowLength.parse("1d"))
rows = 12_345
for form in (pa.string(), pa.large_string()):
    for claimed in (-5, 13_000, 100_000_000_000):
        honest = pa.record_batch({"ts": pa.array(range(rows), pa.timestamp("us")), "x": pa.array(["ab"] * rows, form)})
        message = honest.serialize().to_pybytes()
        assert message.count(struct.pack("<q", rows)) == 3  # the batch's length, and that of each column
        message = message.replace(struct.pack("<q", rows), struct.pack("<q", claimed))
        hostile = pa.ipc.read_record_batch(pa.py_buffer(message), honest.schema)
        try:
            BatchValidator(schema=honest.schema, spec=spec, max_batch_bytes=1 << 28).check(hostile)
        except TimestoreError as exc:
            print(form, claimed, exc.kind, flush=True)
"""


def test_a_batch_that_lies_about_its_length_does_not_kill_the_server() -> None:
    """An IPC message may claim rows that its buffers do not have: it is ``batch_invalid``, not a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", LYING_LENGTHS], check=False, capture_output=True, text=True)
    claims = [f"{form} {claimed}" for form in ("string", "large_string") for claimed in (-5, 13_000, 100_000_000_000)]
    assert done.stdout.splitlines() == [f"{claim} batch_invalid" for claim in claims], done.stderr[-500:]
    assert done.returncode == 0
