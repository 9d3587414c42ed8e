"""Why a server may commit and delete nothing in a storage target, as long as there is a reason."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import structlog

from catalog.ledger import Ledger
from catalog.lifecycle import Lifecycle
from catalog.records import CatalogIdentity
from storage.horizon import check_horizon
from storage.marker import check_root, claim_root, foreign_root
from storage.store import Store
from storage.targets import Targets, about_target
from timestore.errors import TimestoreError, error
from timestore.storage_target import DEFAULT_STORAGE

log = structlog.get_logger()


class Fence:
    """What is known of the storage targets: which are open, and which are closed for good. Thread safe.

    A target is examined before its first use. One that does not pass is examined again at the next: a disk may have
    been mounted meanwhile. One that was ``close``d stays so while the server runs.
    """

    def __init__(self, examine: Callable[[str], None] = lambda _: None) -> None:
        self._examine = examine  # raises ``fenced``, ``storage_unavailable`` or ``storage_not_found``
        self._lock = threading.Lock()
        self._reasons: dict[str, TimestoreError | None] = {}  # None for a target that is open

    def is_open(self, storage: str) -> bool:
        """Say whether a target was found to be good, without looking."""
        with self._lock:
            return self._reasons.get(storage, _UNKNOWN) is None

    def close(self, storage: str, reason: TimestoreError) -> None:
        """Let nothing through to a target any more, for a reason of kind ``fenced``; the first one stays."""
        with self._lock:
            self._reasons[storage] = self._reasons.get(storage) or reason

    def check(self, storage: str) -> None:
        """Raise the reason, if there is one."""
        with self._lock:
            reason = self._reasons.get(storage, _UNKNOWN)
        if reason is _UNKNOWN:
            self._examine(storage)
            with self._lock:
                reason = self._reasons.setdefault(storage, None)
        if reason is not None:
            raise error(reason.kind, reason.message, details=reason.details)


_UNKNOWN = error("internal", "nobody has looked yet")


def fence_of(ledger: Ledger, lifecycle: Lifecycle, targets: Targets) -> Fence:
    """Return a fence that lets through to storage that is this catalog's, and no newer than it."""
    return Fence(partial(_examine, ledger, lifecycle, targets))


def _examine(ledger: Ledger, lifecycle: Lifecycle, targets: Targets, storage: str) -> None:
    """Look whether a target belongs to the catalog; raises ``fenced``, or what keeps it from being seen."""
    store, identity = targets.of(storage), ledger.identity(storage)
    with about_target(storage):
        (_claim_default if storage == DEFAULT_STORAGE else _check_added)(ledger, store, identity)
        check_horizon(store, lambda: lifecycle.horizon(storage))


def _claim_default(ledger: Ledger, store: Store, identity: CatalogIdentity) -> None:
    """Make a root that nobody has the catalog's, if it has none yet."""
    root_id = claim_root(
        store, catalog_id=identity.catalog_id, incarnation=identity.incarnation, settled=identity.storage_root
    )
    if ledger.settle_storage_root(root_id) != root_id:
        raise foreign_root(store, identity.catalog_id, str(identity.catalog_id))


def _check_added(_: Ledger, store: Store, identity: CatalogIdentity) -> None:
    """Check a root that was marked when the target was added."""
    check_root(store, catalog_id=identity.catalog_id, incarnation=identity.incarnation, settled=identity.storage_root)
