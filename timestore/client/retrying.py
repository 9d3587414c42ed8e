"""When a call is repeated: only what may be, after a wait that grows, until a deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from timestore.errors import RetryableError

T = TypeVar("T")

DEFAULT_DEADLINE_S = 10.0
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """Repeats calls that failed for no fault of their own.

    Attempts may start until ``deadline_s`` after the first; 0 means that there is only one. A running attempt is never
    cut short.
    """

    deadline_s: float = DEFAULT_DEADLINE_S

    def call(self, attempt: Callable[[], T], *, may_repeat: Callable[[], bool] = lambda: True) -> T:
        """Return what ``attempt`` returns; raise the error of the last one.

        Only a ``RetryableError`` is worth another attempt, and only while ``may_repeat`` says so. (``internal`` may be
        repeated too, but rarely helps: the caller should hear of it.)
        """
        backoff = _Backoff(deadline=time.monotonic() + self.deadline_s, may_repeat=may_repeat)
        caller = stamina.RetryingCaller(attempts=None, timeout=None)
        return caller(backoff.after, attempt)


class _Backoff:
    """Decides after each failure of one call."""

    def __init__(self, *, deadline: float, may_repeat: Callable[[], bool]) -> None:
        self._deadline = deadline
        self._may_repeat = may_repeat
        self._failures = 0

    def after(self, failure: Exception) -> bool | float:
        """Return how many seconds to wait before the next attempt; False if there must be none.

        What the server asks for is the least; the jitter keeps many clients from coming back all at once.
        """
        if not isinstance(failure, RetryableError) or not self._may_repeat():
            return False
        longest = min(_FIRST_WAIT_S * 2.0**self._failures, _LONGEST_WAIT_S)
        self._failures = min(self._failures + 1, 32)
        wait_s = (failure.retry_after_s or 0.0) + random.uniform(longest / 2, longest)
        return wait_s if time.monotonic() + wait_s < self._deadline else False
