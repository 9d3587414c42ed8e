"""The stores of all storage targets, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from storage.opening import open_store
from storage.store import Store
from timestore.errors import TimestoreError, error
from timestore.storage_target import DEFAULT_STORAGE, StorageTarget, no_such_storage

_OF_THE_STORE = ("storage_unavailable", "disk_full", "unsupported", "fenced")


class Targets:
    """Opens each target when it is first needed, and keeps it: a name stands for one place. Thread safe."""

    def __init__(self, *, default: Store, added: Callable[[], Sequence[StorageTarget]] = list) -> None:
        self._added = added  # asks the catalog for all targets but 'default'
        self._lock = threading.Lock()
        self._stores = {DEFAULT_STORAGE: default}

    def of(self, name: str) -> Store:
        """Return a target's store; raises ``storage_not_found``, or ``storage_unavailable`` if it cannot be opened."""
        with self._lock:
            store = self._stores.get(name)
        return store or self._open(name)

    def names(self) -> list[str]:
        """Return the names of all targets, 'default' first."""
        return [DEFAULT_STORAGE, *(target.name for target in self._added())]

    def added(self) -> dict[str, StorageTarget]:
        """Return all targets but 'default', by name."""
        return {target.name: target for target in self._added()}

    def _open(self, name: str) -> Store:
        added = self.added()
        if name not in added:
            raise no_such_storage(name, added)
        with about_target(name):
            store = open_store(added[name].url, added[name].options)
        with self._lock:
            return self._stores.setdefault(name, store)


@contextmanager
def about_target(name: str) -> Iterator[None]:
    """Let errors of a store say which target it is, where there is more than one to think of."""
    try:
        yield
    except TimestoreError as exc:
        if name == DEFAULT_STORAGE or exc.kind not in _OF_THE_STORE or exc.details.get("storage") == name:
            raise
        raise error(
            "storage_unavailable" if exc.kind == "unsupported" else exc.kind,
            f"the storage {name!r} cannot be used by this server: {exc.message}. timestore storage test {name} says "
            "what works",
            details={**exc.details, "storage": name},
            retry_after_s=exc.retry_after_s,
        ) from exc
