"""Routing: the pieces of any batch are those that sorting its rows one by one into windows gives."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readers.stamps import units_per_second
from timestore.errors import InvalidInputError
from timestore.windows import EPOCH, MAX_INSTANT_S, MIN_INSTANT_S, UNITS_PER_SECOND, TimeWindow, WindowLength
from writers.routing import RoutedBatch, RoutedPiece, Router

INT64 = 2**63
LENGTHS = ["1m", "15m", "1h", "1d", "7d", "366d", "week", "month", "year"]
NEAR = [0, -1, 86_400, 1_767_225_600, -2_208_988_800]  # around these, small steps cross borders of windows


def _limits(unit: str) -> tuple[int, int]:
    """Return the first stamp of a unit that may come, and the last."""
    per_second = UNITS_PER_SECOND[unit]
    return max(MIN_INSTANT_S * per_second, -INT64), min(MAX_INSTANT_S * per_second, INT64) - 1


@st.composite
def _stamps(draw: st.DrawFn, unit: str) -> list[int]:
    lowest, highest = _limits(unit)
    per_second = UNITS_PER_SECOND[unit]
    anywhere = st.integers(lowest, highest)
    close = st.builds(
        lambda base, steps, fine: base * per_second + steps * 43_200 * per_second + fine,
        st.sampled_from(NEAR),
        st.integers(-80, 80),
        st.integers(-1, 1),
    )
    rows = draw(st.lists(st.one_of(close, close, close, anywhere), min_size=1, max_size=40))
    return sorted(rows) if draw(st.booleans()) else rows


CASES = st.sampled_from(sorted(UNITS_PER_SECOND)).flatmap(
    lambda unit: st.tuples(st.just(unit), st.sampled_from(LENGTHS), _stamps(unit))
)


def _batch(unit: str, stamps: list[int]) -> pa.RecordBatch:
    column = pa.array(stamps, pa.int64()).view(pa.timestamp(unit))
    return pa.record_batch({"ts": column, "row": pa.array(range(len(stamps)), pa.int64())})


def _split(batch: pa.RecordBatch, unit: str, length: str, max_windows: int = 1_000) -> RoutedBatch:
    router = Router(window=WindowLength.parse(length), units_per_second=UNITS_PER_SECOND[unit], max_windows=max_windows)
    return router.split(batch, np.array(batch.column("ts").view(pa.int64()).to_pylist(), np.int64))


@settings(deadline=None)
@given(case=CASES)
def test_pieces_are_what_row_by_row_gives(case: tuple[str, str, list[int]]) -> None:
    """For any stamps in any unit, sorted or not: one piece per window, oldest first, its rows in their order."""
    unit, text, stamps = case
    length = WindowLength.parse(text)
    expected: dict[TimeWindow, list[int]] = defaultdict(list)
    for row, stamp in enumerate(stamps):
        expected[length.containing(stamp // UNITS_PER_SECOND[unit])].append(row)
    batch = _batch(unit, stamps)
    routed = _split(batch, unit, text)
    rows = routed.batch.column("row").to_pylist()
    assert [(piece.window, rows[piece.start : piece.start + piece.rows]) for piece in routed.pieces] == sorted(
        expected.items()
    )
    assert routed.batch.equals(batch.take(rows))
    if stamps == sorted(stamps):
        assert routed.batch is batch


def _reference(text: str, moment: datetime) -> tuple[datetime, datetime]:
    """The window of an instant by the calendar of Python alone, as the reference page describes it."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "year":
        return datetime(moment.year, 1, 1, tzinfo=UTC), datetime(moment.year + 1, 1, 1, tzinfo=UTC)
    if text == "month":
        start = midnight.replace(day=1)
        return start, (start + timedelta(days=31)).replace(day=1)
    if text == "week":
        monday = midnight - timedelta(days=moment.weekday())
        return monday, monday + timedelta(days=7)
    number, letter = int(text[:-1]), text[-1]
    span = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[letter] * number
    origin = EPOCH if letter == "d" else midnight
    start = origin + (moment - origin) // span * span
    return start, start + span


EDGES = st.sampled_from(
    [
        datetime(3, 1, 1, tzinfo=UTC),
        datetime(3, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1900, 2, 28, 23, 59, 59, tzinfo=UTC),  # no leap year
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1968, 2, 29, tzinfo=UTC),
        datetime(2000, 2, 29, 23, 59, 59, tzinfo=UTC),  # a leap year
        datetime(2024, 12, 30, tzinfo=UTC),  # a Monday in the week of a new year
        datetime(9997, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
)
MOMENTS = st.one_of(
    EDGES,
    st.datetimes(datetime(3, 1, 1), datetime(9997, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds it
    st.builds(lambda edge, step: edge + timedelta(microseconds=step), EDGES, st.integers(-1, 1)).filter(
        lambda moment: 3 <= moment.year <= 9997
    ),
)
TYPES = [*(pa.timestamp(unit) for unit in UNITS_PER_SECOND), pa.date32(), pa.date64()]


def _stamp(moment: datetime, type_: pa.DataType) -> int:
    """A moment in units of a type, rounded down."""
    per_second = units_per_second(type_)
    if pa.types.is_date(type_):
        moment = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return (moment - EPOCH) // timedelta(microseconds=1) * per_second // 10**6


@settings(deadline=None, max_examples=200)
@given(
    moments=st.lists(MOMENTS, min_size=1, max_size=12),
    type_=st.sampled_from(TYPES),
    text=st.sampled_from([*LENGTHS, "30m", "12h", "2d"]),
)
def test_windows_are_those_of_the_calendar(moments: list[datetime], type_: pa.DataType, text: str) -> None:
    """For any instants in any unit or as dates, each row lies in the window that Python's calendar finds."""
    numbers = [_stamp(moment, type_) for moment in moments]
    numbers = [number for number in numbers if -INT64 <= number < INT64]
    if not numbers:
        return
    per_second = units_per_second(type_)
    times = np.array(numbers, np.int64)
    batch = pa.record_batch({"ts": times, "row": np.arange(len(times))})
    router = Router(window=WindowLength.parse(text), units_per_second=per_second, max_windows=1_000)
    routed = router.split(batch, times)
    rows = 0
    for piece in routed.pieces:
        for number in routed.batch.column("ts").slice(piece.start, piece.rows).to_pylist():
            moment = EPOCH + timedelta(microseconds=number * 10**6 // per_second)
            assert (piece.window.start, piece.window.end) == _reference(text, moment)
            rows += 1
    assert rows == len(times)


def test_pieces_cover_the_batch_end_to_end() -> None:
    """Pieces begin at the first row, follow each other without a gap, and none is empty."""
    random = np.random.default_rng(1)
    for stamps in (np.arange(2_400) * 3_600, random.permutation(2_400) * 3_600):
        batch = _batch("s", stamps.tolist())
        routed = _split(batch, "s", "1d")
        assert len(routed.pieces) == 100
        assert all(piece.rows == 24 for piece in routed.pieces)
        assert [piece.start for piece in routed.pieces] == list(range(0, 2_400, 24))
        routed.batch.validate(full=True)


def test_a_batch_of_one_window_is_not_touched() -> None:
    """The usual batch lies in one window and goes through as it is, in whatever order its rows are."""
    batch = _batch("s", [0, 86_399, 5])
    routed = _split(batch, "s", "1d")
    assert routed.batch is batch
    assert routed.pieces == [RoutedPiece(window=WindowLength.parse("1d").containing(0), start=0, rows=3)]


@pytest.mark.parametrize("length", ["1m", "1d", "month"])
@pytest.mark.parametrize("ordered", [True, False])
def test_too_many_windows_are_refused_with_the_limit(ordered: bool, length: str) -> None:
    """A put may touch so many windows and no more, counted over its batches, however far they are apart."""
    stamps = [n * 31 * 86_400 for n in range(5)]
    stamps = stamps if ordered else [*stamps[1:], stamps[0]]
    assert len(_split(_batch("s", stamps), "s", length, max_windows=5).pieces) == 5
    with pytest.raises(InvalidInputError) as caught:
        _split(_batch("s", stamps), "s", length, max_windows=4)
    assert caught.value.kind == "too_many_windows"
    assert caught.value.details["limit"] == "4"


def test_windows_are_counted_over_a_whole_put() -> None:
    """Batches of one window each add up; a window that comes again is not counted twice."""
    router = Router(window=WindowLength.parse("1d"), units_per_second=1, max_windows=2)
    for day in (0, 1, 0, 1):
        batch = _batch("s", [day * 86_400])
        assert len(router.split(batch, np.array([day * 86_400], np.int64)).pieces) == 1
    with pytest.raises(InvalidInputError):
        router.split(_batch("s", [2 * 86_400]), np.array([2 * 86_400], np.int64))


def test_far_more_windows_than_allowed_are_refused_quickly() -> None:
    """A batch whose every row is a window of its own costs no more than one sort."""
    rows = 200_000
    stamps = np.random.default_rng(1).permutation(rows).astype(np.int64) * 60
    batch = pa.record_batch({"ts": pa.array(stamps).view(pa.timestamp("s"))})
    router = Router(window=WindowLength.parse("1m"), units_per_second=1, max_windows=1_000)
    with pytest.raises(InvalidInputError) as caught:
        router.split(batch, stamps)
    assert caught.value.details == {"windows": str(rows), "limit": "1000"}
