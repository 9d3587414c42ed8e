"""The Postgres of a server's catalog: one that was given, or one of its own, which it keeps alive."""

from __future__ import annotations

import threading
from pathlib import Path

import structlog

from catalog.embedded import EmbeddedPostgres, EmbeddedPostgresError
from timestore_app.closing import OnClose
from timestore_app.settings import Settings

START_TIMEOUT_S = 30.0
SUPERVISION_INTERVAL_S = 0.25
RESTART_BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0)

log = structlog.get_logger()


class CatalogPostgres:
    """Belongs to the main thread, as embedded Postgres does; only ``dsn`` may be asked by others."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._given = settings.catalog_dsn
        self._own = EmbeddedPostgres(directory=directory) if self._given is None else None

    def start(self, on_close: OnClose) -> None:
        """Start it, if it is the server's own; raises ``EmbeddedPostgresError``."""
        if self._own is not None:
            on_close("postgres", self._own.stop)
            self._own.start(deadline_s=START_TIMEOUT_S)

    def dsn(self) -> str:
        """Return where this server finds it; it may hold a password."""
        if self._own is not None:
            return self._own.private_dsn
        assert self._given is not None  # one of the two is there
        return self._given.get_secret_value()

    @property
    def dsn_to_tell(self) -> str | None:
        """Where another server finds it, without a secret; None if an operator gave it and knows it."""
        return self._own.dsn if self._own is not None else None

    def supervise(self, stop: threading.Event) -> None:
        """Wait for ``stop``, and start Postgres again whenever it died."""
        failures = 0
        while not stop.wait(SUPERVISION_INTERVAL_S):
            if self._own is None or (code := self._own.exit_code()) is None:
                continue
            log.warning("postgres.died", exit_code=code)
            if stop.wait(RESTART_BACKOFF_S[min(failures, len(RESTART_BACKOFF_S) - 1)]):
                return
            try:
                self._own.start(deadline_s=START_TIMEOUT_S)
                failures = 0
            except EmbeddedPostgresError as exc:
                failures += 1
                log.warning("postgres.not_restarted", error=str(exc))
