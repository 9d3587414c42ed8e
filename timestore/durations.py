"""Durations as people write them: ``30d``, ``12h``, ``15m``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from timestore.errors import error

MAX_DURATION_S = 36_525 * 86_400  # a hundred years: more is a mistake, and would leave the calendar
_DURATION = re.compile(r"([1-9][0-9]{0,9})([mhd])\Z")
_UNIT_S = {"m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A number of minutes, hours or days; equal durations may be spelled differently."""

    text: str = field(compare=False)
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``<n>m``, ``<n>h`` or ``<n>d``; raises ``descriptor_invalid``."""
        found = _DURATION.match(text)
        seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
        if not 0 < seconds <= MAX_DURATION_S:
            raise error(
                "descriptor_invalid",
                f"the duration {text[:40]!a} is not allowed: use <n>m, <n>h or <n>d, up to 36525d",
                details={"duration": text},
            )
        return cls(text=text, seconds=seconds)

    @property
    def timedelta(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def __str__(self) -> str:
        return self.text
