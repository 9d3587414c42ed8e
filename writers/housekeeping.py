"""What is due from time to time: windows expire, history is cut off, bytes of no version are deleted."""

from __future__ import annotations

from datetime import timedelta

import structlog

from catalog.lifecycle import BEFORE_ALL_FILES, CondemnedFile, Lifecycle
from storage.store import Store
from timestore.errors import TimestoreError

log = structlog.get_logger()


class Housekeeping:
    """Does what is due. Any number of servers may do so at once, and die at any point of it.

    The order is that of every deletion: the catalog condemns a file in a transaction of its own, then its bytes go,
    then the catalog forgets it.
    """

    def __init__(
        self, *, lifecycle: Lifecycle, store: Store, history_retention: timedelta, ticket_lifetime: timedelta
    ) -> None:
        self._lifecycle = lifecycle
        self._store = store
        self._history_retention = history_retention
        self._ticket_lifetime = ticket_lifetime

    def run(self) -> None:
        """Do everything that is due; raises what the catalog raises."""
        self._expire_windows()
        self._lifecycle.purge(retention=self._history_retention, ticket_lifetime=self._ticket_lifetime)
        self._delete_condemned()

    def _expire_windows(self) -> None:
        for incarnation in self._lifecycle.expirable():
            try:
                expiry = self._lifecycle.expire(incarnation)
            except TimestoreError as exc:
                if exc.kind != "dataset_not_found":  # dropped meanwhile
                    raise
                continue
            log.info("windows.expired", incarnation=str(incarnation), version=expiry.version, rows=expiry.rows)

    def _delete_condemned(self) -> None:
        after = BEFORE_ALL_FILES
        while page := self._lifecycle.condemned_files(after=after):
            after = page[-1].holder_id
            if deleted := [file for file in page if self._delete(file)]:
                self._lifecycle.forget_files(deleted)
                log.info("files.deleted", files=len(deleted))

    def _delete(self, file: CondemnedFile) -> bool:
        """Delete a file's bytes; one that cannot be deleted stays condemned, and does not keep the others."""
        try:
            self._store.delete(file.path)
        except TimestoreError as exc:
            log.warning("file.not_deleted", file_id=str(file.holder_id), error=str(exc))
            return False
        return True
