"""How many puts may run at once, and none while the server shuts down."""

from __future__ import annotations

import threading
import time

from timestore.errors import error

RETRY_AFTER_S = 0.5


class AdmissionGate:
    """Counts running puts. Thread safe."""

    def __init__(self, *, max_running: int) -> None:
        self._max_running = max_running
        self._condition = threading.Condition()
        self._running = 0
        self._closed = False

    @property
    def running(self) -> int:
        return self._running

    @property
    def is_open(self) -> bool:
        return not self._closed

    def enter(self) -> None:
        """Take a place; raise ``overloaded`` or ``shutting_down`` at once if there is none."""
        with self._condition:
            self.check()
            if self._running >= self._max_running:
                raise error(
                    "overloaded",
                    f"{self._running} puts are running, at most {self._max_running} may; try again shortly",
                    details={"running": self._running, "limit": self._max_running},
                    retry_after_s=RETRY_AFTER_S,
                )
            self._running += 1

    def check(self) -> None:
        """Raise ``shutting_down`` if nobody may enter any more."""
        if self._closed:
            raise error("shutting_down", "the server is shutting down; send this again", retry_after_s=RETRY_AFTER_S)

    def leave(self) -> None:
        with self._condition:
            self._running -= 1
            self._condition.notify_all()

    def close(self) -> None:
        """Let nobody in any more."""
        with self._condition:
            self._closed = True

    def wait_until_empty(self, *, deadline: float) -> bool:
        """Wait for the running puts until a time of ``time.monotonic()``; return whether all have left."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._running, timeout=max(0.0, deadline - time.monotonic()))
