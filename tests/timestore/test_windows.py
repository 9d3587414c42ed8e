"""Windows: every spelling, and the span that any instant lies in, against plain calendar arithmetic."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from timestore.errors import InvalidInputError
from timestore.windows import (
    EPOCH,
    MAX_INSTANT_S,
    MIN_INSTANT_S,
    TimeWindow,
    WindowLength,
    format_instant,
    parse_instant,
    to_datetime,
    to_seconds,
)
from timestore.wire_errors import encode_status

IN_A_DAY = {"m": 1_440, "h": 24}
WITHIN_A_DAY = [f"{n}{unit}" for unit, most in IN_A_DAY.items() for n in range(1, most + 1) if most % n == 0]
SPELLINGS = [*WITHIN_A_DAY, "1d", "2d", "7d", "30d", "365d", "366d", "week", "month", "year"]
INSTANTS = st.integers(MIN_INSTANT_S, MAX_INSTANT_S - 1)


def _model(text: str, moment: datetime) -> tuple[datetime, datetime]:
    """Say which window a moment lies in, as a person with a calendar would."""
    midnight = moment.replace(hour=0, minute=0, second=0)
    if text == "week":
        monday = midnight - timedelta(days=midnight.weekday())
        return monday, monday + timedelta(days=7)
    if text == "month":
        first = midnight.replace(day=1)
        return first, (first + timedelta(days=31)).replace(day=1)
    if text == "year":
        first = midnight.replace(month=1, day=1)
        return first, first.replace(year=first.year + 1)
    n, unit = int(text[:-1]), text[-1]
    if unit == "d":
        start = midnight - timedelta(days=(midnight - EPOCH).days % n)
        return start, start + timedelta(days=n)
    length = timedelta(minutes=n) if unit == "m" else timedelta(hours=n)
    start = midnight + (moment - midnight) // length * length
    return start, start + length


@settings(deadline=None)
@given(text=st.sampled_from(SPELLINGS), instant_s=INSTANTS)
@example(text="year", instant_s=MIN_INSTANT_S)
@example(text="year", instant_s=MAX_INSTANT_S - 1)
@example(text="month", instant_s=MAX_INSTANT_S - 1)
@example(text="week", instant_s=MIN_INSTANT_S)
@example(text="week", instant_s=MAX_INSTANT_S - 1)
@example(text="366d", instant_s=MIN_INSTANT_S)
@example(text="366d", instant_s=MAX_INSTANT_S - 1)
@example(text="1d", instant_s=-1)
@example(text="week", instant_s=-1)
@example(text="month", instant_s=-1)
@example(text="year", instant_s=0)
def test_an_instant_lies_in_the_window_that_the_calendar_says(text: str, instant_s: int) -> None:
    """For every spelling, before 1970 and at both ends of time, the window is the one a calendar gives."""
    window = WindowLength.parse(text).containing(instant_s)
    assert (window.start, window.end) == _model(text, to_datetime(instant_s))
    assert window.start_s <= instant_s < window.end_s


@settings(deadline=None)
@given(text=st.sampled_from(SPELLINGS), instant_s=st.integers(MIN_INSTANT_S + 400 * 86_400, MAX_INSTANT_S - 1))
def test_windows_lie_end_to_end(text: str, instant_s: int) -> None:
    """Every instant of a window lies in it, and the one before its start in the window that ends there."""
    length = WindowLength.parse(text)
    window = length.containing(instant_s)
    assert length.containing(window.start_s) == window == length.containing(window.end_s - 1)
    assert length.containing(window.start_s - 1).end_s == window.start_s


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_window_is_spelled_as_it_was_parsed(text: str) -> None:
    """A dataset's window keeps its text."""
    assert WindowLength.parse(text).text == text


OUT_OF_RANGE = ["0m", "0d", "7m", "5h", "48h", "1441m", "2880m", "367d", "99999d", "100000d", "-1d", "1.5h"]
MISSPELLED = [
    "",
    "1s",
    "1w",
    "1",
    "m",
    "d",
    "+1d",
    "01d",
    "1D",
    " 1d",
    "1d ",
    "1d\n",
    "1 d",
    "Week",
    "months",
    "week\n",
]
HOSTILE = ["\u0661d", "1\u00b2d", "\x00", "\ud800", "x" * 100_000]


@pytest.mark.parametrize("text", [*OUT_OF_RANGE, *MISSPELLED, *HOSTILE], ids=lambda text: ascii(text[:20]))
def test_other_spellings_are_refused(text: str) -> None:
    """What is not a window of the protocol is refused as ``descriptor_invalid``."""
    with pytest.raises(InvalidInputError) as caught:
        WindowLength.parse(text)
    assert caught.value.kind == "descriptor_invalid"


def test_a_refused_window_can_be_told_to_the_client() -> None:
    """Whatever a client puts into ``window``, the refusal can be encoded, in a size that gRPC still carries."""
    for text in ("\ud800", "x" * 1_000_000):
        with pytest.raises(InvalidInputError) as caught:
            WindowLength.parse(text)
        assert len(encode_status(caught.value)) <= 3_000


@settings(deadline=None)
@given(text=st.text(max_size=8))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text does anything else than parse or raise ``descriptor_invalid``."""
    try:
        outcome = WindowLength.parse(text).text
    except InvalidInputError as exc:
        outcome = exc.kind
    assert outcome in (text, "descriptor_invalid")


@settings(deadline=None)
@given(text=st.sampled_from(SPELLINGS), instant_s=INSTANTS)
@example(text="366d", instant_s=MIN_INSTANT_S)
def test_a_path_part_has_sixteen_digits_and_sorts_like_time(text: str, instant_s: int) -> None:
    """The path part names the start, with four digits for the year, so that names sort like windows."""
    window = WindowLength.parse(text).containing(instant_s)
    start = window.start
    date, clock = start.date().isoformat().replace("-", ""), start.time().isoformat().replace(":", "")
    assert window.path_part == f"{date}T{clock}Z"
    assert len(window.path_part) == 16


def test_a_window_is_spelled_half_open_in_utc() -> None:
    """Texts of a window are RFC 3339 in UTC."""
    window = TimeWindow(start_s=1_767_225_600, end_s=1_767_312_000)
    assert window.path_part == "20260101T000000Z"
    assert window.as_texts() == ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
    assert str(window) == "[2026-01-01T00:00:00Z, 2026-01-02T00:00:00Z)"


def test_the_limits_are_whole_years() -> None:
    """Rows may lie in the years 3 to 9997: every window's start and end has a year of four digits."""
    assert to_datetime(MIN_INSTANT_S) == datetime(3, 1, 1, tzinfo=UTC)
    assert to_datetime(MAX_INSTANT_S) == datetime(9998, 1, 1, tzinfo=UTC)


ZONES = st.integers(-1_439, 1_439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
FIRST, LAST = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001 - hypothesis adds the zone
MOMENTS = st.datetimes(FIRST, LAST, timezones=ZONES)


@settings(deadline=None)
@given(moment=MOMENTS)
def test_instants_survive_their_text(moment: datetime) -> None:
    """An instant of any zone, with microseconds, comes back from its text, which is in UTC."""
    text = format_instant(moment)
    assert text.endswith("Z")
    assert parse_instant(text) == moment


@settings(deadline=None)
@given(instant_s=INSTANTS)
def test_seconds_survive_a_datetime(instant_s: int) -> None:
    """Seconds to datetime and back loses nothing."""
    assert to_seconds(to_datetime(instant_s)) == instant_s


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-01-01T00:00:00Zz",
        "\ud800",
        "1" * 100_000,
    ],
)
def test_what_is_not_an_instant_is_refused(text: str) -> None:
    """No offset, no such day, outside the calendar, nonsense: all are ``descriptor_invalid``."""
    with pytest.raises(InvalidInputError) as caught:
        parse_instant(text)
    assert caught.value.kind == "descriptor_invalid"


def test_digits_beyond_microseconds_are_not_dropped() -> None:
    """Nothing is coerced silently: an instant with more digits than can be kept is refused."""
    with pytest.raises(InvalidInputError):
        parse_instant("2026-01-01T00:00:00.123456789Z")
