"""What is due from time to time: the horizon is noted, windows and history end, what dead servers left goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

import structlog

from catalog.lifecycle import BEFORE_ALL_FILES, CondemnedFile, Lifecycle
from storage.horizon import check_horizon, write_horizon
from storage.store import Store
from timestore.errors import TimestoreError
from writers.fence import Fence

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep did."""

    condemned: int  # files that dead servers left
    deleted: int  # files whose bytes are gone, whatever they were condemned for


class Housekeeping:
    """Does what is due. Any number of servers may do so at once, and die at any point of it.

    The order is that of every deletion: the catalog condemns a file in a transaction of its own, then its bytes go,
    then the catalog forgets it.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        store: Store,
        history_retention: timedelta,
        ticket_lifetime: timedelta,
        lease: timedelta,
        fence: Fence | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._store = store
        self._history_retention = history_retention
        self._ticket_lifetime = ticket_lifetime
        self._lease = lease
        self._fence = fence or Fence()
        self._noted_horizon = -1
        self._sweeps_from = time.monotonic() + lease.total_seconds()

    def run(self) -> None:
        """Do everything that is due; raises what the catalog and the store raise, and ``fenced``."""
        self._check_fence()
        self._expire_windows()
        self._lifecycle.purge(retention=self._history_retention, ticket_lifetime=self._ticket_lifetime)
        self.sweep()
        self.note_horizon()  # last, for it writes: a full disk must not keep anything from being deleted

    def sweep(self) -> Swept:
        """Condemn what dead servers left, then delete the bytes of all that is condemned.

        Nothing is condemned before this server has run for a lease: it may be its own network that was away. Raises
        ``fenced`` where nothing may be deleted.
        """
        self._check_fence()
        condemned = self._lifecycle.sweep(lease=self._lease) if time.monotonic() >= self._sweeps_from else 0
        if condemned:
            log.info("files.swept", files=condemned)
        return Swept(condemned=condemned, deleted=self._delete_condemned())

    def note_horizon(self) -> None:
        """Note in storage how far the catalog has come, if anything was committed since.

        The catalog counts first: a crash in between leaves it ahead, which is harmless. Raises ``fenced`` for a catalog
        that is behind, and raises its horizon no further: it would catch up without knowing what it has missed.
        """
        self._check_fence()
        horizon = self._lifecycle.raise_horizon()
        if horizon != self._noted_horizon:
            write_horizon(self._store, horizon)
            self._noted_horizon = horizon

    def _check_fence(self) -> None:
        """Close the fence, for puts too, if the catalog has come to be older than its storage since the start."""
        self._fence.check()
        try:
            check_horizon(self._store, self._lifecycle.horizon)
        except TimestoreError as failure:
            if failure.kind == "fenced":
                log.warning("server.fenced", error=failure.message)
                self._fence.close(failure)
            raise

    def _expire_windows(self) -> None:
        for incarnation in self._lifecycle.expirable():
            try:
                expiry = self._lifecycle.expire(incarnation)
            except TimestoreError as exc:
                if exc.kind != "dataset_not_found":  # dropped meanwhile
                    raise
                continue
            log.info("windows.expired", incarnation=str(incarnation), version=expiry.version, rows=expiry.rows)

    def _delete_condemned(self) -> int:
        after = BEFORE_ALL_FILES
        deleted = 0
        while page := self._lifecycle.condemned_files(after=after):
            after = page[-1].holder_id
            if gone := [file for file in page if self._delete(file)]:
                self._lifecycle.settle_files(gone)
                deleted += len(gone)
        if deleted:
            log.info("files.deleted", files=deleted)
        return deleted

    def _delete(self, file: CondemnedFile) -> bool:
        """Delete a file's bytes and look; one that is still there stays condemned, and does not keep the others."""
        try:
            self._store.delete(file.path)
            return self._store.stat(file.path) is None
        except TimestoreError as exc:
            log.warning("file.not_deleted", file_id=str(file.holder_id), error=str(exc))
            return False
