"""What people end: idempotency keys, the windows of a dataset, whole datasets."""

from __future__ import annotations

from access.grants import Permission
from access.principal import Principal
from catalog.lifecycle import Dropped, Expiry, Lifecycle
from catalog.manifests import Manifests
from timestore.datasets import Dataset
from timestore.durations import Duration
from timestore.errors import error
from timestore.receipt import Receipt
from writers.fence import Fence
from writers.horizon_notes import HorizonNotes


class DatasetLifecycle:
    """Ends things in good order. Thread safe.

    Every method raises ``permission_denied`` before anything else is looked at, ``dataset_not_found``, and ``fenced``
    where nothing may be committed.
    """

    def __init__(self, *, manifests: Manifests, lifecycle: Lifecycle, fence: Fence, horizon: HorizonNotes) -> None:
        self._manifests = manifests
        self._lifecycle = lifecycle
        self._fence = fence
        self._horizon = horizon

    def abandon(self, name: str, idempotency_key: str, principal: Principal) -> Receipt | None:
        """Fence an idempotency key, so that no put with it can commit; return the receipt instead if one has."""
        dataset = self._dataset(name, principal, Permission.APPEND)
        receipt = self._lifecycle.abandon(dataset, idempotency_key)
        self._horizon.due(dataset.spec.storage)
        return receipt

    def drop(self, name: str, principal: Principal, *, confirm: str) -> tuple[Dataset, Dropped]:
        """Drop a dataset whose name was given twice; raises ``descriptor_invalid`` if the second is another."""
        principal.require(name, Permission.ADMIN)
        if confirm != name:
            raise error(
                "descriptor_invalid",
                f"confirm is {confirm[:130]!a}; it must be the name, {name!r}, once more: there is no way back",
            )
        dataset = self._dataset(name, principal, Permission.ADMIN)
        dropped = self._lifecycle.drop(dataset)
        self._horizon.due(dataset.spec.storage)
        return dataset, dropped

    def set_retention(self, name: str, retention: Duration | None, principal: Principal) -> Dataset:
        """Change how long a dataset keeps windows after their end, None for ever; return it as it is then."""
        self._lifecycle.set_retention(self._dataset(name, principal, Permission.ADMIN), retention)
        return self._manifests.dataset(name)

    def expire(self, name: str, principal: Principal) -> tuple[Dataset, Expiry]:
        """Remove the windows past a dataset's retention now."""
        dataset = self._dataset(name, principal, Permission.ADMIN)
        expiry = self._lifecycle.expire(dataset.spec.incarnation)
        self._horizon.due(dataset.spec.storage)
        return dataset, expiry

    def _dataset(self, name: str, principal: Principal, permission: Permission) -> Dataset:
        principal.require(name, permission)
        dataset = self._manifests.dataset(name)
        self._fence.check(dataset.spec.storage)
        return dataset
