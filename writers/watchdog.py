"""Puts whose client fell silent: after a while they give back what they hold, though their thread cannot end yet.

A peer that vanished without closing its connection keeps its RPC, and the thread that reads it, until TCP notices. That
cannot be helped, but rows, files and the place among the running puts can be taken from it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import structlog

from timestore.errors import TimestoreError, error

LONGEST_LOOK_S = 1.0

log = structlog.get_logger()


class Watch:
    """One put as its watchdog sees it: at work, or waiting for its client. Thread safe.

    Waits add up until rows arrive: messages without any keep no put alive. Only a put that waits can be given up: its
    own thread does not touch it meanwhile, and hears of it when it goes on.
    """

    def __init__(self, *, idle_timeout_s: float, give_up: Callable[[], None]) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._give_up = give_up
        self._lock = threading.Lock()
        self._waiting_since: float | None = None
        self._waited_s = 0.0  # since rows arrived, without the wait that goes on
        self._given_up = False

    @contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """Mark a time in which nobody but the client can bring the put on.

        Raises ``deadline_exceeded`` at its end if the put was given up meanwhile.
        """
        with self._lock:
            self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waited_s += time.monotonic() - self._waiting_since
                self._waiting_since = None
                given_up = self._given_up
            if given_up:
                raise _silent(self._idle_timeout_s)

    def took_rows(self) -> None:
        """Note that the client brought the put on."""
        with self._lock:
            self._waited_s = 0.0

    @property
    def given_up(self) -> bool:
        return self._given_up

    def expire(self, now: float) -> bool:
        """Give the put up if its client has been silent too long at ``now``; return whether it was given up by this."""
        with self._lock:
            if self._given_up or self._waiting_since is None:
                return False
            if self._waited_s + now - self._waiting_since < self._idle_timeout_s:
                return False
            self._given_up = True
        # Giving back may wait for writers and for the catalog: it must not hold up the watch over the others.
        threading.Thread(target=self._give_up, name="put-give-up", daemon=True).start()
        return True


class Watchdog:
    """Looks after all running puts. Thread safe."""

    def __init__(self, *, idle_timeout_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._ended = threading.Event()
        self.expired_puts = 0  # given up since the start

    @property
    def stalled_puts(self) -> int:
        """The number of puts that were given up and whose connections still hold a thread."""
        with self._lock:
            return sum(watch.given_up for watch in self._watches)

    def open(self) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def close(self) -> None:
        self._ended.set()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def watch(self, give_up: Callable[[], None]) -> Iterator[Watch]:
        """Watch a put as long as its thread runs; ``give_up`` is called from another thread, at most once."""
        watch = Watch(idle_timeout_s=self._idle_timeout_s, give_up=give_up)
        with self._lock:
            self._watches.add(watch)
        try:
            yield watch
        finally:
            with self._lock:
                self._watches.remove(watch)

    def look(self) -> None:
        """Give up the puts that have waited too long by now."""
        with self._lock:
            watches = list(self._watches)
        expired = sum(watch.expire(time.monotonic()) for watch in watches)
        if expired:
            self.expired_puts += expired
            log.warning("puts.expired", puts=expired, idle_timeout_s=self._idle_timeout_s)

    def _run(self) -> None:
        while not self._ended.wait(min(LONGEST_LOOK_S, self._idle_timeout_s / 4)):
            self.look()


def _silent(idle_timeout_s: float) -> TimestoreError:
    return error(
        "deadline_exceeded",
        f"the client sent no rows for {idle_timeout_s:g} s, so the put was given up and nothing was stored; send it "
        "again with the same idempotency key, without such pauses",
        details={"put_idle_timeout_s": f"{idle_timeout_s:g}"},
    )
