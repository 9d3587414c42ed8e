"""What there is to measure about a put: how it ended, what came in, and where its time went.

Doors and puts only note it. Who counts is handed in as a ``PutObserver``, so that no part of the domain knows metrics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

COMMITTED = "committed"
REPLAYED = "replayed"


class Stage(StrEnum):
    """Where a put's time goes. Stages of one put may run at once; what waits for its client is in none of them."""

    ROOM = "room"  # waiting for a place in the memory budget
    VALIDATE = "validate"
    DIGEST = "digest"
    SPLIT = "split"  # into windows
    WRITE = "write"  # data files
    UPLOAD = "upload"  # to storage, the wait for an upload's turn included; where that is on this machine, promotion
    COMMIT = "commit"


class StageTimes:
    """Adds up the time that one put spends in each stage. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[Stage, float] = {}

    @contextmanager
    def spent_in(self, stage: Stage) -> Iterator[None]:
        """Add the time that the block takes, however it ends."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: Stage, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def by_stage(self) -> Mapping[Stage, float]:
        """Return the seconds of the stages that the put came to."""
        with self._lock:
            return dict(self._seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedPut:
    """A put that has ended, however it did."""

    outcome: str  # COMMITTED, REPLAYED or the kind of its error: few values, whatever clients send
    rows: int  # received
    bytes: int  # received, as uncompressed Arrow data
    seconds: float  # from its descriptor to its end
    stages: Mapping[Stage, float]


class PutObserver(Protocol):
    """Hears of every put that was begun. Thread safe, quick, and raises nothing."""

    def put_ended(self, put: EndedPut) -> None:
        """Take note of a put that has ended, refused ones included."""
        ...


class Unobserved:
    """Counts nothing."""

    def put_ended(self, put: EndedPut) -> None:
        """Let it pass."""
