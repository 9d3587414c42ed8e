"""A point in time to be done by, handed down instead of timeouts."""

from __future__ import annotations

import time
from dataclasses import dataclass

_POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A moment of the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the moment that many seconds from now."""
        return cls(at=time.monotonic() + seconds)

    def left_s(self) -> float:
        """Return the seconds left, never below zero."""
        return max(0.0, self.at - time.monotonic())

    def passed(self) -> bool:
        """Tell whether no time is left."""
        return self.left_s() == 0.0

    def pause(self) -> None:
        """Sleep one polling step, not beyond the deadline."""
        time.sleep(min(_POLL_S, self.left_s()))
