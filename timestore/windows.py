"""Time windows: half-open, UTC-aligned spans of the timestamp column.

All instants here are whole seconds since the Unix epoch, UTC. Units and arrays are the router's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from timestore.errors import error

UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # of Arrow's timestamps
DAY_S = 86_400
MONDAY_S = 4 * DAY_S  # 1970-01-05, the first Monday after the epoch
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_FIXED_S = 366 * DAY_S
# Years have four digits in RFC 3339 and in paths; two are kept free so that every window's start and end has a name.
MIN_INSTANT_S = -62_072_524_800  # 0003-01-01T00:00:00Z
MAX_INSTANT_S = 253_339_228_800  # 9998-01-01T00:00:00Z, not included

_FIXED = re.compile(r"([1-9][0-9]{0,4})([mhd])\Z")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_UNIT_S = {"m": 60, "h": 3_600, "d": DAY_S}


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLength:
    """How long a dataset's windows are: a fixed number of seconds, or one or twelve calendar months."""

    text: str = field(compare=False)  # as the dataset spells it: 15m, 1h, 1d, week, month, year
    seconds: int = 0  # 0 for calendar windows
    anchor_s: int = 0  # an instant at which a fixed window starts
    months: int = 0  # 0 for fixed windows

    @classmethod
    def parse(cls, text: str) -> WindowLength:
        """Parse ``<n>m``, ``<n>h`` (dividing a day), ``<n>d``, ``week``, ``month`` or ``year``."""
        match text:
            case "week":
                return cls(text=text, seconds=7 * DAY_S, anchor_s=MONDAY_S)
            case "month":
                return cls(text=text, months=1)
            case "year":
                return cls(text=text, months=12)
        found = _FIXED.match(text)
        seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
        fits = 0 < seconds <= MAX_FIXED_S and (DAY_S % seconds == 0 or (found is not None and found[2] == "d"))
        if not fits:
            raise error(
                "descriptor_invalid",
                f"the window {text[:40]!a} is not allowed: use <n>m or <n>h that divide a day, <n>d up to 366d, "
                "week, month or year",
                details={"window": text},
            )
        return cls(text=text, seconds=seconds)

    def __str__(self) -> str:
        return self.text

    def containing(self, instant_s: int) -> TimeWindow:
        """Return the window that an instant lies in."""
        if self.seconds:
            start = (instant_s - self.anchor_s) // self.seconds * self.seconds + self.anchor_s
            return TimeWindow(start_s=start, end_s=start + self.seconds)
        moment = to_datetime(instant_s)
        month = (moment.month - 1) // self.months * self.months
        return TimeWindow(
            start_s=_month_start_s(moment.year, month), end_s=_month_start_s(moment.year, month + self.months)
        )


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class TimeWindow:
    """A half-open span [start, end) in seconds since the epoch."""

    start_s: int
    end_s: int

    @property
    def start(self) -> datetime:
        return to_datetime(self.start_s)

    @property
    def end(self) -> datetime:
        return to_datetime(self.end_s)

    @property
    def path_part(self) -> str:
        """The start as data file paths spell it: 20260101T000000Z."""
        return self.start.strftime("%Y%m%dT%H%M%SZ").rjust(16, "0")

    def as_texts(self) -> list[str]:
        return [format_instant(self.start), format_instant(self.end)]

    def __str__(self) -> str:
        return f"[{', '.join(self.as_texts())})"


def to_datetime(instant_s: int) -> datetime:
    return EPOCH + timedelta(seconds=instant_s)


def to_seconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)


def format_instant(moment: datetime) -> str:
    """Write an instant as RFC 3339 in UTC, with microseconds only where there are some."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 instant of at most six decimals, which must say its offset; raise ``descriptor_invalid``."""
    try:
        if not _INSTANT.match(text):
            raise ValueError("not RFC 3339")
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        message = f"{text[:60]!a} is not an instant like 2026-01-31T00:00:00Z or 2026-01-31T01:30:00.123456+01:30"
        raise error("descriptor_invalid", message) from exc


def _month_start_s(year: int, month0: int) -> int:
    return to_seconds(datetime(year + month0 // 12, month0 % 12 + 1, 1, tzinfo=UTC))
