"""Stamps: a time column of any type as numbers since 1970, UTC."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readers.stamps import is_time, stamps, units_per_second

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@settings(deadline=None)
@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    cut=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_stamps_are_read_without_a_copy(values: list[int], unit: str, cut: tuple[int, int]) -> None:
    """The integers of any slice of a timestamp column are read as they lie."""
    start, length = cut
    column = pa.array(values, pa.int64()).view(pa.timestamp(unit)).slice(start, length)
    times = stamps(column)
    assert times.dtype == np.int64
    assert times.tolist() == values[start : start + length]
    assert not len(times) or not times.flags.owndata


@settings(deadline=None)
@given(days=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20), start=st.integers(0, 20))
def test_days_count_in_seconds(days: list[int], start: int) -> None:
    """A date32 is the first second of its day in UTC, for every day that it can name; slices keep their offset."""
    column = pa.array(days, pa.int32()).view(pa.date32()).slice(start)
    assert stamps(column).tolist() == [day * 86_400 for day in days[start:]]


@settings(deadline=None)
@given(day=st.dates())
def test_both_dates_begin_at_midnight_utc(day: date) -> None:
    """date32 and date64 of one day are the same instant."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for type_ in (pa.date32(), pa.date64()):
        [stamp] = stamps(pa.array([day], type_)).tolist()
        assert EPOCH + timedelta(seconds=stamp // units_per_second(type_)) == midnight


def test_an_empty_column_has_no_stamps() -> None:
    """Batches without rows are legal, and may come without any buffer."""
    for type_ in (pa.timestamp("us"), pa.date32(), pa.date64()):
        empty = pa.record_batch({"ts": pa.array([], type_)})
        sent = pa.ipc.read_record_batch(empty.serialize(), empty.schema)
        assert stamps(sent.column(0)).tolist() == []
        assert stamps(pa.Array.from_buffers(type_, 0, [None, None])).tolist() == []


@pytest.mark.parametrize(
    "type_", [pa.int64(), pa.time32("s"), pa.duration("s"), pa.string(), pa.dictionary(pa.int8(), pa.date32())], ids=str
)
def test_other_types_have_no_stamps(type_: pa.DataType) -> None:
    """Only timestamps and dates say when."""
    assert not is_time(type_)
