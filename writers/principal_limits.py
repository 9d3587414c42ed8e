"""What one principal may ask of this server: puts at once, and bytes per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from access.principal import Principal
from timestore.errors import error
from writers.admission import RETRY_AFTER_S

BURST_S = 1.0  # how much of a principal's rate may come at once after a pause
LONGEST_LOOK_S = 0.25


@dataclass(slots=True)
class _Use:
    """What a principal uses now."""

    running: int = 0
    paid_until: float = 0.0  # when all bytes that came so far are paid for, by time.monotonic()


class Pace:
    """The rate of one principal's puts, all together. Thread safe."""

    def __init__(self, lock: threading.Lock, use: _Use, bytes_per_s: int | None) -> None:
        self._lock = lock
        self._use = use
        self._bytes_per_s = bytes_per_s

    def took(self, size: int) -> None:
        """Note bytes that have come."""
        if self._bytes_per_s is None:
            return
        now = time.monotonic()
        with self._lock:
            self._use.paid_until = max(self._use.paid_until, now - BURST_S) + size / self._bytes_per_s

    def wait(self, is_cancelled: Callable[[], bool]) -> None:
        """Wait until more may be read. Meanwhile nobody reads, and flow control slows the client."""
        while (wait_s := self._wait_s()) > 0 and not is_cancelled():
            time.sleep(min(wait_s, LONGEST_LOOK_S))

    def _wait_s(self) -> float:
        if self._bytes_per_s is None:
            return 0.0
        with self._lock:
            return self._use.paid_until - time.monotonic()


class PrincipalGate:
    """Counts the running puts of each principal, and keeps their pace. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: dict[str | None, _Use] = {}

    def enter(self, principal: Principal) -> Pace:
        """Take a place; raises ``overloaded`` at once if the principal has none left."""
        limit = principal.limits.max_running_puts
        with self._lock:
            use = self._uses.setdefault(principal.name, _Use())
            if limit is not None and use.running >= limit:
                raise error(
                    "overloaded",
                    f"{use.running} puts of {principal.name!r} are running, at most {limit} may; try again shortly",
                    details={"running": use.running, "limit": limit},
                    retry_after_s=RETRY_AFTER_S,
                )
            use.running += 1
        return Pace(self._lock, use, principal.limits.bytes_per_s)

    def leave(self, principal: Principal) -> None:
        """Give a place back."""
        now = time.monotonic()
        with self._lock:
            self._uses[principal.name].running -= 1
            # Principals come and go: none is remembered longer than its last bytes are paid for.
            for name in [name for name, use in self._uses.items() if not use.running and use.paid_until <= now]:
                del self._uses[name]
