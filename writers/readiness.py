"""Whether a server can do its work now, asked within a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

from catalog.manifests import Manifests
from storage.marker import find_marker
from storage.targets import Targets
from timestore.errors import TimestoreError
from timestore.storage_target import DEFAULT_STORAGE
from writers.ingestion import Ingestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What keeps a server from its work: nothing, or a kind of error for each part."""

    puts: str | None
    catalog: str | None
    storage: str | None

    @property
    def is_ready(self) -> bool:
        return not (self.puts or self.catalog or self.storage)


class ReadinessProbe:
    """Asks catalog and storage, each at most once at a time, however many want to know. Thread safe.

    A store that hangs holds one thread here, and nobody who asks for longer than the time that they have.
    """

    def __init__(self, *, manifests: Manifests, targets: Targets, ingestion: Ingestion) -> None:
        self._ingestion = ingestion
        self._catalog = _Question("catalog", manifests.check, "catalog_unavailable")
        self._storage = _Question("storage", lambda: find_marker(targets.of(DEFAULT_STORAGE)), "storage_unavailable")

    def look(self, *, timeout_s: float) -> Readiness:
        deadline = time.monotonic() + timeout_s
        catalog, storage = self._catalog.ask(), self._storage.ask()
        return Readiness(
            puts=self._ingestion.refusal,
            catalog=self._catalog.answer(catalog, deadline),
            storage=self._storage.answer(storage, deadline),
        )


class _Question:
    """Something that is asked on a thread of its own."""

    def __init__(self, name: str, look: Callable[[], object], silent: str) -> None:
        self._name = name
        self._look = look
        self._silent = silent  # the kind of error that no answer is
        self._lock = threading.Lock()
        self._running: Future[str | None] | None = None

    def ask(self) -> Future[str | None]:
        """Ask, or share the answer to the question that is under way."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                threading.Thread(
                    target=self._run, args=[self._running], name=f"ready-{self._name}", daemon=True
                ).start()
            return self._running

    def answer(self, running: Future[str | None], deadline: float) -> str | None:
        try:
            return running.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            return self._silent

    def _run(self, running: Future[str | None]) -> None:
        try:
            self._look()
        except TimestoreError as failure:
            running.set_result(failure.kind)
        except Exception:  # noqa: BLE001  # the top of a thread: whatever it was, there is no good answer
            running.set_result(self._silent)
        else:
            running.set_result(None)
