"""Sizes and durations as people write them: ``10GiB``, ``7d``, ``90s``. One parser for settings and command line."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator

_NUMBER = r"(\d+(?:\.\d+)?)"
_SIZE = re.compile(_NUMBER + r" ?([kKMGT]i?)?(?:[bB])?\Z", re.ASCII)
_DURATION = re.compile(_NUMBER + r" ?(ms|s|m|h|d)?\Z", re.ASCII)
_UNIT_BYTES = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("KMGT", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGT", start=1)},
}
_UNIT_S = {"": Decimal(1), "ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_UNIT_S["d"] = Decimal(86_400)


def parse_size(text: str) -> int:
    """Return bytes: a number of them, or one with KB, MB, GB, TB (of 1000) or KiB, MiB, GiB, TiB (of 1024)."""
    found = _SIZE.match(text.strip())
    if found is None:
        raise ValueError(f"{text[:40]!r} is no size like 512MiB or 10GiB")
    unit = (found[2] or "").replace("k", "K")
    return int(Decimal(found[1]) * _UNIT_BYTES[unit])


def parse_duration(text: str) -> float:
    """Return seconds: a number of them, or one with ms, s, m, h or d."""
    found = _DURATION.match(text.strip())
    if found is None:
        raise ValueError(f"{text[:40]!r} is no duration like 500ms, 90s, 15m, 12h or 7d")
    return float(Decimal(found[1]) * _UNIT_S[found[2] or ""])


def format_size(size: int) -> str:
    """Spell bytes for people, with three digits that count."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.3g} {unit}" if unit != "B" else f"{size} B"
        value /= 1024
    return f"{value:.3g} TiB"


def _size_of(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _seconds_of(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Bytes = Annotated[int, BeforeValidator(_size_of)]
Seconds = Annotated[float, BeforeValidator(_seconds_of)]
