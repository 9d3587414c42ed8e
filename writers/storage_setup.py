"""Storage targets as people set them up: add, list, test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from access.grants import Permission
from access.principal import Principal
from catalog.ledger import Ledger
from catalog.storage_targets import StorageUse, TargetRegister
from storage.horizon import is_horizon, read_horizon
from storage.marker import MARKER_PATH, claim_root, find_marker
from storage.opening import open_store
from storage.probe import ProbeStep, is_probe, probe
from storage.store import Store
from storage.targets import Targets
from timestore.errors import TimestoreError, error
from timestore.storage_target import DEFAULT_STORAGE, StorageTarget
from writers.fence import Fence


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTarget:
    """A target as this server sees it."""

    name: str
    url: str
    options: Mapping[str, str]
    use: StorageUse
    trouble: TimestoreError | None  # why this server takes no puts to it


class StorageSetup:
    """Adds, lists and tests storage targets. Thread safe.

    Every method needs ``admin:*``, for the places are whatever this server reaches, and raises ``permission_denied``.
    """

    def __init__(self, *, targets: Targets, register: TargetRegister, ledger: Ledger, fence: Fence) -> None:
        self._targets = targets
        self._register = register
        self._ledger = ledger
        self._fence = fence

    def add(self, target: StorageTarget, principal: Principal) -> bool:
        """Make an empty place the catalog's, under a name, for ever; return False if it is that already.

        It is tested first. Raises ``storage_exists``, ``storage_unavailable``, ``unsupported`` and ``fenced``.
        """
        principal.require_everywhere(Permission.ADMIN)
        self._fence.check(DEFAULT_STORAGE)
        if self._is_there(target):
            return False
        store = open_store(target.url, target.options)
        self._refuse_neighbours(target, store)
        self._refuse_contents(target, store)
        _refuse_what_fails(target, probe(store))
        identity = self._ledger.identity()
        root_id = claim_root(store, catalog_id=identity.catalog_id, incarnation=identity.incarnation, settled=None)
        try:
            self._register.add(target, root_id, horizon=read_horizon(store))
        except TimestoreError:
            if not self._is_there(target):  # another server may have been asked the same
                raise
            return False
        return True

    def listing(self, principal: Principal) -> list[ListedTarget]:
        """Return all targets, 'default' first, each looked at now."""
        principal.require_everywhere(Permission.ADMIN)
        uses = self._register.uses()
        default = StorageTarget(name=DEFAULT_STORAGE, url=self._targets.of(DEFAULT_STORAGE).url(""))
        return [
            ListedTarget(
                name=target.name,
                url=target.url,
                options=target.options,
                use=uses.get(target.name, StorageUse()),
                trouble=self._trouble(target.name),
            )
            for target in (default, *self._targets.added().values())
        ]

    def test(self, name: str, principal: Principal) -> list[ProbeStep]:
        """Try what a target lets this server do, and whether it is this catalog's; raises ``storage_not_found``."""
        principal.require_everywhere(Permission.ADMIN)
        return [*probe(self._targets.of(name)), self._belonging(name)]

    def test_place(self, url: str, options: Mapping[str, str], principal: Principal) -> list[ProbeStep]:
        """Try what a place would let this server do that is no target yet; raises ``unsupported``."""
        principal.require_everywhere(Permission.ADMIN)
        return probe(open_store(url, options))

    def _is_there(self, target: StorageTarget) -> bool:
        """Say whether the catalog has just this target; raises ``storage_exists`` if it has another of its name."""
        if target.name == DEFAULT_STORAGE:
            raise _exists(target, "'default' is what each server's setting storage_url says")
        if (known := self._targets.added().get(target.name)) is None:
            return False
        if known != target:
            raise _exists(
                target,
                f"the storage {known.name!r} is at {known.url} with the options {dict(known.options)}; use another "
                "name, or timestore catalog change-storage where it has moved",
            )
        return True

    def _refuse_neighbours(self, target: StorageTarget, store: Store) -> None:
        """Refuse a place within another target, or around one: its files would be taken for orphans."""
        for name in self._targets.names():
            theirs, ours = _directory(self._targets.of(name)), _directory(store)
            if theirs.startswith(ours) or ours.startswith(theirs):
                raise _exists(target, f"{target.url} overlaps with the storage {name!r} at {theirs}; use another place")

    def _refuse_contents(self, target: StorageTarget, store: Store) -> None:
        """Refuse a place with files: whosever they are, they would be taken for the catalog's."""
        others = (each for each in store.list() if not _is_own(each.path))
        for found in islice(others, 1):
            raise _exists(
                target,
                f"{target.url} is not empty: it has {found.path[:200]!a}. Use an empty directory or prefix; what this "
                f"catalog had forgotten comes back by timestore rebuild --adopt --storage {target.name}={target.url}",
            )

    def _trouble(self, name: str) -> TimestoreError | None:
        try:
            self._fence.check(name)
            find_marker(self._targets.of(name))
        except TimestoreError as failure:
            return failure
        return None

    def _belonging(self, name: str) -> ProbeStep:
        trouble = self._trouble(name)
        return ProbeStep(
            step="belongs to this catalog", ok=trouble is None, reason=trouble.message if trouble else None
        )


def _refuse_what_fails(target: StorageTarget, steps: Sequence[ProbeStep]) -> None:
    for step in steps:
        if not step.ok:
            raise error(
                "storage_unavailable",
                f"the storage at {target.url} cannot be used, step {step.step!r}: {step.reason}",
                details={"storage": target.name, "step": step.step},
            )


def _is_own(path: str) -> bool:
    return path == MARKER_PATH or is_horizon(path) or is_probe(path)


def _directory(store: Store) -> str:
    return f"{store.url('').rstrip('/')}/"


def _exists(target: StorageTarget, why: str) -> TimestoreError:
    return error("storage_exists", why, details={"storage": target.name, "url": target.url})
