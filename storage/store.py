"""The storage seam: where data files last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What a store knows about one object."""

    path: str
    bytes: int


class Store(Protocol):
    """Objects under one root, by relative path. Objects appear whole or not at all, and never change.

    Every method is thread safe and may be called for different paths at once. All raise ``storage_unavailable`` or
    ``disk_full`` when the store fails; paths come from ``storage.paths`` and never leave the root.
    """

    def put(self, source: Path, path: str) -> None:
        """Publish a finished, fsynced local file, durably, unless another object is there already.

        The source is consumed. Finding our own earlier attempt there is success; anything else raises ``internal``.
        """
        ...

    def put_bytes(self, content: bytes, path: str) -> bool:
        """Create a small object; return whether it was absent before."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open an object for reading; raises ``FileNotFoundError``."""
        ...

    def stat(self, path: str) -> StoredObject | None:
        """Look an object up; None if there is none."""
        ...

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield every object whose path starts with ``prefix``."""
        ...

    def delete(self, path: str) -> None:
        """Delete an object; one that is not there is no error."""
        ...

    def url(self, path: str) -> str:
        """Spell an object's path for people and other programs."""
        ...

    def local_path(self, path: str) -> Path | None:
        """Return where an object lies on this machine; None if it does not."""
        ...


@runtime_checkable
class KeepsUploads(Protocol):
    """What a store has that keeps what was sent for an object and not finished, until somebody throws it away."""

    def abort_uploads(self, older_than: timedelta) -> int:
        """Throw away unfinished uploads under the root that began so long ago; return how many there were."""
        ...
