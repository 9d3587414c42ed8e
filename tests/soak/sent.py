"""What a put sends, told by its name alone: whoever knows the name of a put knows every row of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa

SITES = ("north", "south")
OLD_DAYS = (datetime(1990, 1, 1, tzinfo=UTC), datetime(1990, 1, 2, tzinfo=UTC))  # past every retention used here
RECENT_DAYS = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC))
RETENTION = "10000d"
EXTRA_COLUMNS = ("a", "b", "c")
LARGE_ROWS = 30_000
LARGE_SHARE = 0.02  # of the puts: large enough to be in the middle of something when a process dies


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The semantic key and the rows of one put."""

    site: str
    rows: pa.Table
    rows_by_day: dict[datetime, int]

    @property
    def is_all_old(self) -> bool:
        """Whether nothing is left of it once old days have expired."""
        return not self.rows_by_day.keys() & set(RECENT_DAYS)

    def rows_of(self, days: set[datetime]) -> pa.Table:
        """Return the rows of some days, in their order."""
        parts, first = [], 0
        for day, count in self.rows_by_day.items():
            if day in days:
                parts.append(self.rows.slice(first, count))
            first += count
        return pa.concat_tables(parts) if parts else self.rows.slice(0, 0)


@lru_cache(maxsize=512)
def sent(put: str) -> Sent:
    """Return what the put of this name sends: always the same."""
    dice = random.Random(put)
    size = LARGE_ROWS if dice.random() < LARGE_SHARE else 30
    days = sorted(dice.sample(OLD_DAYS + RECENT_DAYS, k=dice.choice((1, 1, 2, 3))))
    rows_by_day = {day: dice.randint(1, size) for day in days}
    rows = sum(rows_by_day.values())
    columns = {
        "ts": pa.array(np.concatenate([_stamps(day, count) for day, count in rows_by_day.items()]), _INSTANT),
        "put": pa.array([put] * rows, pa.string()),
        "number": pa.array(np.arange(rows, dtype=np.int32)),
    }
    for name in dice.sample(EXTRA_COLUMNS, k=dice.choice((0, 0, 1, 2))):
        columns[name] = pa.array(np.arange(rows) * dice.random(), pa.float64())
    return Sent(site=dice.choice(SITES), rows=pa.table(columns), rows_by_day=rows_by_day)


_INSTANT = pa.timestamp("us", "UTC")


def _stamps(day: datetime, rows: int) -> np.ndarray:
    first = (day - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return first + np.arange(rows, dtype=np.int64)
