"""Time columns as numbers: what orders, bounds, routes and cuts rows by time sees, whatever the column's type.

A *stamp* is a 64-bit integer since 1970, UTC: of a timestamp in its own unit, of a date32 in seconds, of a date64 in
milliseconds. A date is the instant at which it begins. Every date32 fits: 2^31 days are 2^48 seconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from timestore.windows import DAY_S, UNITS_PER_SECOND

Timestamps = npt.NDArray[np.int64]  # in units of their column, see ``units_per_second``

_DATES = {pa.date32(): 1, pa.date64(): 1_000}


def is_date(type_: pa.DataType) -> bool:
    return bool(pa.types.is_date(type_))


def is_time(type_: pa.DataType) -> bool:
    """Say whether columns of this type have stamps."""
    return pa.types.is_timestamp(type_) or is_date(type_)


def units_per_second(type_: pa.DataType) -> int:
    """Return how many units of a time column's stamps make a second."""
    per_second: int = _DATES[type_] if is_date(type_) else UNITS_PER_SECOND[type_.unit]
    return per_second


def stamps(column: pa.Array) -> Timestamps:
    """Return the stamps of a time column without nulls; without a copy where the type has 64 bits.

    ``to_numpy`` would import pandas where it is installed.
    """
    if not len(column):
        return np.empty(0, np.int64)
    if pa.types.is_date32(column.type):
        days = np.frombuffer(column.buffers()[1], np.int32, count=len(column), offset=4 * column.offset)
        seconds: Timestamps = days.astype(np.int64) * DAY_S
        return seconds
    return np.frombuffer(column.buffers()[1], np.int64, count=len(column), offset=8 * column.offset)
