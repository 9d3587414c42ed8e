"""Routing: the pieces of any batch are those that sorting its rows one by one into windows gives."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timestore.errors import InvalidInputError
from timestore.windows import MAX_INSTANT_S, MIN_INSTANT_S, UNITS_PER_SECOND, TimeWindow, WindowLength
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
