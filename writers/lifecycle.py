"""What people end: idempotency keys, the windows of a dataset, whole datasets."""

from __future__ import annotations

from catalog.lifecycle import Dropped, Expiry, Lifecycle
from catalog.manifests import Manifests
from timestore.datasets import Dataset
from timestore.durations import Duration
from timestore.errors import error
from timestore.receipt import Receipt
from writers.fence import Fence


class DatasetLifecycle:
    """Ends things in good order. Thread safe.

    Every method raises ``dataset_not_found``, and ``fenced`` where nothing may be committed.
    """

    def __init__(self, *, manifests: Manifests, lifecycle: Lifecycle, fence: Fence | None = None) -> None:
        self._manifests = manifests
        self._lifecycle = lifecycle
        self._fence = fence or Fence()

    def abandon(self, name: str, idempotency_key: str) -> Receipt | None:
        """Fence an idempotency key, so that no put with it can commit; return the receipt instead if one has."""
        return self._lifecycle.abandon(self._dataset(name), idempotency_key)

    def drop(self, name: str, *, confirm: str) -> tuple[Dataset, Dropped]:
        """Drop a dataset whose name was given twice; raises ``descriptor_invalid`` if the second is another."""
        if confirm != name:
            raise error(
                "descriptor_invalid",
                f"confirm is {confirm[:130]!a}; it must be the name, {name!r}, once more: there is no way back",
            )
        dataset = self._dataset(name)
        return dataset, self._lifecycle.drop(dataset)

    def set_retention(self, name: str, retention: Duration | None) -> Dataset:
        """Change how long a dataset keeps windows after their end, None for ever; return it as it is then."""
        self._lifecycle.set_retention(self._dataset(name), retention)
        return self._manifests.dataset(name)

    def expire(self, name: str) -> tuple[Dataset, Expiry]:
        """Remove the windows past a dataset's retention now."""
        dataset = self._dataset(name)
        return dataset, self._lifecycle.expire(dataset.spec.incarnation)

    def _dataset(self, name: str) -> Dataset:
        self._fence.check()
        return self._manifests.dataset(name)
