"""What is due from time to time: the horizon is noted, windows and history end, what dead servers left goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from access.grants import Permission
from access.principal import EVERYBODY, Principal
from catalog.lifecycle import BEFORE_ALL_FILES, CondemnedFile, Lifecycle
from storage.horizon import check_horizon, write_horizon
from storage.store import KeepsUploads
from storage.targets import Targets, about_target
from timestore.errors import TimestoreError
from writers.fence import Fence

# No put takes as long; those of intents that are condemned go sooner, with their files.
ABANDONED_UPLOAD = timedelta(days=1)
UPLOADS_INTERVAL_S = 3_600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep did."""

    condemned: int  # files that dead servers left
    deleted: int  # files whose bytes are gone, whatever they were condemned for
    left: dict[str, TimestoreError] = field(default_factory=dict)  # storage targets that others must sweep, and why


@dataclass(slots=True, kw_only=True)
class Done:
    """What housekeeping has done since the server's start, for whoever counts."""

    swept_files: int = 0  # orphans: files that servers left which died or gave up
    deleted_files: int = 0  # orphans, and files that no version has any more
    undeletable_files: dict[str, int] = field(default_factory=dict)  # by target: left over by the last deletion there
    last_run_at: float | None = None  # the Unix time at which everything that was due had been done, in every target


class Housekeeping:
    """Does what is due. Any number of servers may do so at once, and die at any point of it.

    Each storage target is kept for itself: one that this server does not reach, or may not change, is left to others
    and keeps nothing from being done in the rest.

    The order is that of every deletion: the catalog condemns a file in a transaction of its own, then its bytes go,
    then the catalog forgets it.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        targets: Targets,
        history_retention: timedelta,
        ticket_lifetime: timedelta,
        lease: timedelta,
        fence: Fence | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._targets = targets
        self._history_retention = history_retention
        self._ticket_lifetime = ticket_lifetime
        self._lease = lease
        self._fence = fence or Fence()
        self._noted_horizons: dict[str, int] = {}
        self._uploads_due_at: dict[str, float] = {}
        self._sweeps_from = time.monotonic() + lease.total_seconds()
        self.done = Done()

    def run(self) -> None:
        """Do everything that is due; raises what the catalog and the stores raise, and ``fenced``."""
        self._for_each(self._targets.names(), self._run)
        self.done.last_run_at = time.time()

    def sweep(self, principal: Principal = EVERYBODY) -> Swept:
        """Condemn what dead servers left, then delete the bytes of all that is condemned.

        Nothing is condemned before this server has run for a lease: it may be its own network that was away. Raises
        ``fenced`` where nothing may be deleted in any target, and ``permission_denied``; the server itself may.
        """
        principal.require_everywhere(Permission.ADMIN)
        condemned = deleted = 0
        left: dict[str, TimestoreError] = {}
        for storage in (names := self._targets.names()):
            try:
                swept = self._sweep(storage)
            except TimestoreError as failure:
                left[storage] = failure
            else:
                condemned, deleted = condemned + swept.condemned, deleted + swept.deleted
        if len(left) == len(names):
            raise left[names[0]]
        return Swept(condemned=condemned, deleted=deleted, left=left)

    def abort_uploads(self, storage: str) -> int:
        """Throw away what was sent to a target and never finished, now and then; return how many uploads that were."""
        store = self._targets.of(storage)
        if not isinstance(store, KeepsUploads) or time.monotonic() < self._uploads_due_at.get(storage, 0.0):
            return 0
        self._check_fence(storage)
        with about_target(storage):
            aborted = store.abort_uploads(ABANDONED_UPLOAD)
        self._uploads_due_at[storage] = time.monotonic() + UPLOADS_INTERVAL_S
        if aborted:
            log.info("uploads.aborted", uploads=aborted, storage=storage)
        return aborted

    def note_horizon(self, storages: Iterable[str] | None = None) -> None:
        """Note in storage targets (all, unless said otherwise) how far the catalog has come, if it has come further.

        The catalog counts first: a crash in between leaves it ahead, which is harmless. Raises ``fenced`` for a catalog
        that is behind, and raises its horizon no further: it would catch up without knowing what it has missed.
        """
        self._for_each(self._targets.names() if storages is None else storages, self._note_horizon)

    def _for_each(self, storages: Iterable[str], work: Callable[[str], None]) -> None:
        """Do something for each target; raise the first failure when all the others are done."""
        failures = []
        for storage in storages:
            try:
                work(storage)
            except TimestoreError as failure:
                failures.append(failure)
                log.info("storage.left_alone", storage=storage, error=str(failure))
        if failures:
            raise failures[0]

    def _run(self, storage: str) -> None:
        self._check_fence(storage)
        self._expire_windows(storage)
        self._lifecycle.purge(storage=storage, retention=self._history_retention, ticket_lifetime=self._ticket_lifetime)
        self._sweep(storage)
        self.abort_uploads(storage)
        self._note_horizon(storage)  # last, for it writes: a full disk must not keep anything from being deleted

    def _sweep(self, storage: str) -> Swept:
        self._check_fence(storage)
        due = time.monotonic() >= self._sweeps_from
        condemned = self._lifecycle.sweep(storage, lease=self._lease) if due else 0
        if condemned:
            log.info("files.swept", files=condemned, storage=storage)
            self.done.swept_files += condemned
        return Swept(condemned=condemned, deleted=self._delete_condemned(storage))

    def _note_horizon(self, storage: str) -> None:
        self._check_fence(storage)
        horizon = self._lifecycle.raise_horizon(storage)
        if horizon != self._noted_horizons.get(storage):
            with about_target(storage):
                write_horizon(self._targets.of(storage), horizon)
            self._noted_horizons[storage] = horizon

    def _check_fence(self, storage: str) -> None:
        """Close the fence, for puts too, if the catalog has come to be older than a target since the start."""
        self._fence.check(storage)
        try:
            with about_target(storage):
                check_horizon(self._targets.of(storage), lambda: self._lifecycle.horizon(storage))
        except TimestoreError as failure:
            if failure.kind == "fenced":
                log.warning("server.fenced", storage=storage, error=failure.message)
                self._fence.close(storage, failure)
            raise

    def _expire_windows(self, storage: str) -> None:
        for incarnation in self._lifecycle.expirable(storage):
            try:
                expiry = self._lifecycle.expire(incarnation)
            except TimestoreError as exc:
                if exc.kind != "dataset_not_found":  # dropped meanwhile
                    raise
                continue
            log.info("windows.expired", incarnation=str(incarnation), version=expiry.version, rows=expiry.rows)

    def _delete_condemned(self, storage: str) -> int:
        after = BEFORE_ALL_FILES
        deleted = left = 0
        while page := self._lifecycle.condemned_files(storage, after=after):
            after = page[-1].holder_id
            if gone := [file for file in page if self._delete(storage, file)]:
                self._lifecycle.settle_files(gone)
                deleted += len(gone)
            left += len(page) - len(gone)
        self.done.deleted_files += deleted
        self.done.undeletable_files[storage] = left
        if deleted:
            log.info("files.deleted", files=deleted, storage=storage)
        return deleted

    def _delete(self, storage: str, file: CondemnedFile) -> bool:
        """Delete a file's bytes and look; one that is still there stays condemned, and does not keep the others."""
        store = self._targets.of(storage)
        try:
            store.delete(file.path)
            return store.stat(file.path) is None
        except TimestoreError as exc:
            log.warning("file.not_deleted", file_id=str(file.holder_id), error=str(exc))
            return False
