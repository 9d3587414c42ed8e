"""When the horizon is noted: soon after whatever was committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

STOP_TIMEOUT_S = 5.0


class HorizonNotes:
    """Has the horizon noted on a thread of its own, so that no put waits for it. Thread safe.

    After a while without commits that is at once, else once in an interval: a busy server writes few objects, and a
    backup of just before a commit is still told from one of just after it.
    """

    def __init__(self, *, note: Callable[[Iterable[str] | None], None], interval_s: float) -> None:
        self._note = note  # takes the storage targets; raises nothing
        self._interval_s = interval_s
        self._due = threading.Event()
        self._lock = threading.Lock()
        self._storages: set[str] = set()  # that are due
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="horizon", daemon=True)

    def open(self) -> None:
        """Begin; what was committed before, in whatever target, is noted now."""
        self._due.set()
        self._thread.start()

    def due(self, storage: str) -> None:
        """Say that something was, or may have been, committed to a dataset in a storage target."""
        with self._lock:
            self._storages.add(storage)
        self._due.set()

    def close(self) -> None:
        """Note nothing any more. What is due then is the caller's to note."""
        self._closed.set()
        self._due.set()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        first = True
        while self._due.wait() and not self._closed.is_set():
            self._due.clear()
            self._note(None if first else self._take())
            first = False
            self._closed.wait(self._interval_s)

    def _take(self) -> set[str]:
        with self._lock:
            storages, self._storages = self._storages, set()
        return storages
