"""Datasets as far as a caller may know of them: the way to the catalog for everything that doors ask about datasets."""

from __future__ import annotations

from uuid import UUID

from access.grants import Permission
from access.principal import Principal
from catalog.manifests import Manifests
from timestore.datasets import Dataset
from timestore.errors import error
from timestore.reading import AsOf

# Producers must know the schema that they write to, and what became of their appends.
KNOW = (Permission.READ, Permission.APPEND)


class VisibleDatasets:
    """Finds and lists datasets for principals. Thread safe.

    Every method that takes a name raises ``permission_denied`` before the catalog is asked.
    """

    def __init__(self, *, manifests: Manifests) -> None:
        self._manifests = manifests

    def dataset(self, name: str, principal: Principal, *permissions: Permission) -> Dataset:
        """Return a dataset on which one of some permissions is granted; raises ``dataset_not_found`` too."""
        principal.require(name, *permissions)
        return self._manifests.dataset(name)

    def dataset_of_ticket(self, name: str, incarnation: UUID, version: int, principal: Principal) -> Dataset:
        """Return the dataset of a ticket, as ``Manifests.dataset_of_ticket`` does, to one who may read it."""
        principal.require(name, Permission.READ)
        return self._manifests.dataset_of_ticket(name, incarnation, version)

    def pinned(
        self, name: str, as_of: AsOf, cursor: tuple[UUID, int] | None, principal: Principal
    ) -> tuple[Dataset, int]:
        """Return the dataset and version that a page is about: those of its cursor, which is as good as a ticket.

        Without a cursor, those that ``as_of`` means. Raises ``descriptor_invalid`` if the two differ.
        """
        if cursor is None:
            dataset = self.dataset(name, principal, Permission.READ)
            return dataset, self._manifests.resolve(dataset, as_of)
        incarnation, version = cursor
        if as_of.version not in (None, version):
            raise error("descriptor_invalid", f"the cursor is for version {version}, not {as_of.version}")
        return self.dataset_of_ticket(name, incarnation, version, principal), version

    def find(self, name: str, principal: Principal) -> Dataset | None:
        """Return a dataset that may be read, however its case; None if there is none, or it may not."""
        return self._manifests.find(name) if principal.may(name, Permission.READ) else None

    def find_for_append(self, name: str, principal: Principal) -> Dataset | None:
        """Return a dataset that may be appended to, however its case; None if there is none."""
        principal.require(name, Permission.APPEND)
        return self._manifests.find(name)

    def datasets(self, principal: Principal, *, after: str, limit: int, prefix: str = "") -> list[Dataset]:
        """Return a page of those that the principal may know of, by name."""
        return self._manifests.datasets(after=after, limit=limit, prefix=prefix, patterns=principal.patterns(*KNOW))
