"""The places that running queries take, and what a query holds while it has one.

gRPC blocks the thread of a stream whose client takes nothing, for ever if need be. Its query must not keep a place that
others wait for, nor its files: so it gives way at its deadline, whether or not its thread wakes up; and earlier, once
its client has taken nothing for ``idle_timeout_s`` and another query waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from timestore.errors import TimestoreError, error

ACQUIRE_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 30.0
POLL_S = 0.1
RETRY_AFTER_S = 1.0

T = TypeVar("T")


class Place:
    """What one query holds until it ends, or gives way. Thread safe."""

    def __init__(self, free: Callable[[Place], None]) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        self._held = ExitStack()
        self._held.callback(free, self)
        self._end: Callable[[TimestoreError], None] | None = None
        self._idle_since: float | None = None

    def runs(self, end: Callable[[TimestoreError], None]) -> None:
        """Say how the query is ended, from another thread, with what its client is to hear."""
        self._end = end

    def hold(self, resource: AbstractContextManager[T]) -> T:
        """Enter a context until the place is given up, which may be before."""
        entered = resource.__enter__()
        with self._lock:
            if not self._is_closed:
                self._held.push(resource)
                return entered
        resource.__exit__(None, None, None)
        return entered

    def watched(self, results: Iterator[T]) -> Iterator[T]:
        """Yield results, and note how long each is in the client's hands."""
        for result in results:
            self._idle_since = time.monotonic()
            yield result
            self._idle_since = None

    def is_stalled(self, idle_s: float) -> bool:
        """Say whether the client has taken nothing for so long."""
        since = self._idle_since
        return since is not None and time.monotonic() - since >= idle_s

    def give_way(self, reason: TimestoreError) -> None:
        """End the query, and free what it holds."""
        if self._end is not None:
            self._end(reason)
        self.close()

    def close(self) -> None:
        """Free what is held, once; the query must have ended."""
        with self._lock:
            self._is_closed = True
            held = self._held.pop_all()
        held.close()


class QueryPlaces:
    """A bounded number of places. Thread safe."""

    def __init__(self, *, places: int, idle_timeout_s: float = IDLE_TIMEOUT_S) -> None:
        self._size = places
        self._idle_timeout_s = idle_timeout_s
        self._free = threading.BoundedSemaphore(places)
        self._lock = threading.Lock()
        self._taken: set[Place] = set()

    @contextmanager
    def take(self) -> Iterator[Place]:
        """Take a place; raises ``overloaded`` if none becomes free in time."""
        self._acquire()
        place = Place(self._release)
        with self._lock:
            self._taken.add(place)
        try:
            yield place
        finally:
            place.close()

    def _acquire(self) -> None:
        deadline = time.monotonic() + ACQUIRE_TIMEOUT_S
        while not self._free.acquire(timeout=POLL_S):
            self._end_stalled()
            if time.monotonic() >= deadline:
                raise error(
                    "overloaded",
                    f"{self._size} queries are running, and no more may; try again shortly",
                    details={"limit": self._size},
                    retry_after_s=RETRY_AFTER_S,
                )

    def _end_stalled(self) -> None:
        with self._lock:
            stalled = [place for place in self._taken if place.is_stalled(self._idle_timeout_s)]
        for place in stalled[:1]:
            place.give_way(
                error(
                    "deadline_exceeded",
                    f"the client took nothing of the query's rows for {self._idle_timeout_s:g} s, and other queries "
                    "needed its place; ask again, and read on",
                )
            )

    def _release(self, place: Place) -> None:
        with self._lock:
            self._taken.discard(place)
        self._free.release()
