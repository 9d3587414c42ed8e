"""Every file that the catalog knows, whatever for: to compare with what is in storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from catalog.connections import Connections
from catalog.records import CatalogIdentity
from timestore.storage_target import DEFAULT_STORAGE

PAGE_FILES = 500
_BEFORE_ALL = (UUID(int=0), -1)


class Owner(StrEnum):
    """Why the catalog knows a file."""

    LISTED = "listed"  # some version has it
    INTENT = "intent"  # it is being written, or was left by a server that died
    CONDEMNED = "condemned"  # its bytes are to be deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogedFile:
    """A data file of some version that can still be read, and what the catalog says is in it."""

    holder_id: UUID
    slice_id: int
    dataset: str
    path: str
    bytes: int
    checksum: str
    key: str  # canonical JSON
    window_start: datetime
    window_end: datetime
    rows: int
    digest: str
    append_ids: tuple[UUID, ...]

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> CatalogedFile:
        *plain, append_ids = row
        values = (*plain, tuple(append_ids))
        return cls(**dict(zip(cls.__slots__, values, strict=True)))  # columns stand in field order


class Inventory:
    """Answers which files there ought to be in a storage target. Thread safe; each call reads one snapshot."""

    def __init__(self, *, connections: Connections, storage: str = DEFAULT_STORAGE) -> None:
        self._connections = connections
        self.storage = storage

    def identity(self) -> CatalogIdentity:
        """Return who this catalog is."""
        [(catalog_id, incarnation, root_id)] = self._connections.read("read_identity", {"storage": self.storage})
        return CatalogIdentity(catalog_id=catalog_id, incarnation=incarnation, storage_root=root_id)

    def owners(self, paths: Sequence[str]) -> dict[str, Owner]:
        """Return why the catalog knows some paths; those it does not know are left out."""
        rows = self._connections.read("find_owners", {"storage": self.storage, "paths": list(paths)})
        return {path: Owner(owner) for path, owner in rows}

    def count(self) -> int:
        """Count the files that versions have."""
        [(files,)] = self._connections.read("count_files", {"storage": self.storage})
        return int(files)

    def files(self) -> Iterator[CatalogedFile]:
        """Yield the files that versions have, page by page: those that come and go meanwhile may be among them."""
        holder, slice_ = _BEFORE_ALL
        while page := self._page(holder, slice_):
            yield from page
            holder, slice_ = page[-1].holder_id, page[-1].slice_id

    def _page(self, holder: UUID, slice_: int) -> list[CatalogedFile]:
        parameters: dict[str, object] = {
            "storage": self.storage,
            "after_holder": holder,
            "after_slice": slice_,
            "limit": PAGE_FILES,
        }
        return [CatalogedFile.from_row(row) for row in self._connections.read("list_files", parameters)]
