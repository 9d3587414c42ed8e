"""What clients tell of themselves, one JSON object a line: what they are about to do, then what they were answered."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A thread begins something new, having seen this stage; all it began before has ended."""

    thread: int
    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A put is about to be sent under an idempotency key."""

    dataset: str
    key: str
    put: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A put got its receipt."""

    dataset: str
    key: str
    put: str
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A put was refused, for good or (``in_doubt``) after a client had lost its patience."""

    dataset: str
    key: str
    put: str
    kind: str
    message: str
    in_doubt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """An idempotency key was given up, or the receipt came back of the append that had committed."""

    dataset: str
    key: str
    receipt: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfSent:
    """A put ended without its sign, and was refused."""

    dataset: str
    key: str
    put: str
    kind: str


Event = Turn | Sending | Answered | Refused | Abandoned | HalfSent
_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Turn, Sending, Answered, Refused, Abandoned, HalfSent)
}


def encode(event: Event) -> str:
    """Write an event as one line."""
    return json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n"


def decode(line: str) -> Event:
    """Read what ``encode`` wrote."""
    fields = json.loads(line)
    return _KINDS[fields.pop("event")](**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Which datasets are in use, by what is done to them; a file that every client reads again and again."""

    number: int
    datasets: dict[str, str]
    pause_s: float  # at most, between two things that a thread does
    over: bool = False

    def as_text(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Stage:
        """Read what ``as_text`` wrote."""
        return cls(**json.loads(text))
