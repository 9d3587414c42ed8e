"""Uploads: files go to a distant store on threads of their own, while the writers write on.

Every upload is reported within a time, whatever the store does. One that takes too long is given up: its put is told,
and another thread takes the place of the one that the store does not let go. So nobody who waits for an upload needs a
deadline, and a store that hangs holds up neither other puts nor the end of the server. What was given up may land later
yet: see ``cancel``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from uuid import UUID

import structlog

from storage.store import Store
from timestore.errors import InternalError, TimestoreError, error
from writers.staging_room import Place

LONGEST_LOOK_S = 1.0
STUCK_FOR_EACH = 4  # threads that a store does not let go, for each that uploads; past that none is replaced
PATIENCE_OF_THE_QUEUE = 2  # an upload that does not begin is told so when none has ended for so many timeouts
RETRY_AFTER_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upload:
    """A finished, staged file and where it goes."""

    owner: object  # the put
    file_id: UUID
    source: Path
    store: Store
    path: str
    place: Place  # given back when the upload has ended, however
    ended: Callable[[TimestoreError | None], None]  # called once unless it is cancelled, on any thread; never raises


class Uploads:
    """Puts staged files into stores. Thread safe. Threads start with the first upload, and none keeps the process."""

    def __init__(self, *, threads: int, timeout_s: float) -> None:
        self._threads = threads
        self._timeout_s = timeout_s
        self._condition = threading.Condition()
        # By put, so that a large one does not hold up the small: who is next first. Each with when it came.
        self._waiting: dict[object, deque[tuple[float, Upload]]] = {}
        self._running: dict[Upload, float] = {}  # each with when it began; without those given up
        self._workers = 0  # threads that will take another upload
        self._stuck = 0  # threads with one that was given up
        self._last_end = time.monotonic()
        self._started = False
        self._closed = threading.Event()

    @property
    def pending(self) -> int:
        """The number of uploads that wait or run."""
        with self._condition:
            return sum(map(len, self._waiting.values())) + len(self._running)

    def submit(self, upload: Upload) -> None:
        """Queue an upload. How much can queue is bounded by the room in staging."""
        with self._condition:
            if not self._closed.is_set():
                self._start_threads()
                self._waiting.setdefault(upload.owner, deque()).append((time.monotonic(), upload))
                self._condition.notify()
                return
        _report(upload, _closing())

    def cancel(self, owner: object) -> set[UUID]:
        """Drop the uploads of a put that has failed, and return those files of which none has begun.

        Of all others bytes may land at any later time: also of those that ended well, by a request that was repeated.
        """
        with self._condition:
            dropped = [upload for _, upload in self._waiting.pop(owner, ())]
        for upload in dropped:
            upload.place.give_back()
        return {upload.file_id for upload in dropped}

    def close(self) -> None:
        """Tell everybody who waits that nothing comes any more. Waits for no upload."""
        with self._condition:
            self._closed.set()
            left = [*self._running, *(upload for _, upload in chain(*self._waiting.values()))]
            self._waiting.clear()
            self._running.clear()
            self._condition.notify_all()
        for upload in left:
            _report(upload, _closing())

    def look(self, now: float) -> None:
        """Give up what has taken too long at ``now``."""
        with self._condition:
            overdue = [upload for upload, since in self._running.items() if now - since >= self._timeout_s]
            for upload in overdue:
                self._let_go(upload)
            quiet_since, patience_s = self._last_end, self._timeout_s * PATIENCE_OF_THE_QUEUE
            stale = [each for each in chain(*self._waiting.values()) if now - max(each[0], quiet_since) >= patience_s]
            for entry in stale:
                self._waiting[entry[1].owner].remove(entry)
            self._waiting = {owner: entries for owner, entries in self._waiting.items() if entries}
        if overdue or stale:
            log.warning("uploads.given_up", running=len(overdue), waiting=len(stale), upload_timeout_s=self._timeout_s)
        for upload in [*overdue, *(upload for _, upload in stale)]:
            _report(upload, self._too_slow())

    def _let_go(self, upload: Upload) -> None:
        """Give up an upload, and put a thread in the place of its own; the caller holds the lock."""
        del self._running[upload]
        self._stuck += 1
        self._workers -= 1
        if self._stuck < self._threads * STUCK_FOR_EACH:
            self._start_worker()

    def _start_threads(self) -> None:
        """Start all threads at the first call; the caller holds the lock."""
        if not self._started:
            threading.Thread(target=self._watch, name="upload-watch", daemon=True).start()
            self._started = True
            for _ in range(self._threads):
                self._start_worker()

    def _start_worker(self) -> None:
        self._workers += 1
        threading.Thread(target=self._work, name="upload", daemon=True).start()

    def _work(self) -> None:
        while (upload := self._next()) is not None:
            failure = self._put(upload)
            with self._condition:
                self._last_end = time.monotonic()
                awaited = self._running.pop(upload, None) is not None
                goes_on = awaited or self._take_place_back()
            if awaited:
                _report(upload, failure)
            if not goes_on:
                return

    def _take_place_back(self) -> bool:
        """Say whether the thread of an upload that was given up is needed; the caller holds the lock."""
        if self._closed.is_set():
            return False
        self._stuck -= 1
        if self._workers >= self._threads:
            return False
        self._workers += 1
        return True

    def _next(self) -> Upload | None:
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._closed.is_set())
            if self._closed.is_set():
                return None
            owner, entries = next(iter(self._waiting.items()))
            _, upload = entries.popleft()
            del self._waiting[owner]
            if entries:
                self._waiting[owner] = entries  # behind the others
            self._running[upload] = time.monotonic()
            return upload

    def _put(self, upload: Upload) -> TimestoreError | None:
        try:
            upload.store.put(upload.source, upload.path)
        except TimestoreError as exc:
            return exc
        except Exception as exc:  # noqa: BLE001  # the top of a thread: whatever happened, the put must hear of it
            failure = InternalError("internal", f"a data file could not be uploaded: {type(exc).__name__}")
            failure.__cause__ = exc
            return failure
        return None

    def _watch(self) -> None:
        while not self._closed.wait(min(LONGEST_LOOK_S, self._timeout_s / 4)):
            self.look(time.monotonic())

    def _too_slow(self) -> TimestoreError:
        return error(
            "storage_unavailable",
            f"the storage did not take a file within {self._timeout_s:g} s; nothing was stored. Send this again with "
            "the same idempotency key; if the storage is only slow, raise the server's upload_timeout_s",
            details={"upload_timeout_s": f"{self._timeout_s:g}"},
            retry_after_s=RETRY_AFTER_S,
        )


def _report(upload: Upload, failure: TimestoreError | None) -> None:
    upload.place.give_back()
    upload.ended(failure)


def _closing() -> TimestoreError:
    return error("shutting_down", "the server stopped before the storage had taken all files; send this again")
