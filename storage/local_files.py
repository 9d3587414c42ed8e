"""Stored files as files of this machine, for as long as they are in use: DuckDB opens nothing else.

Where the store is on this machine they are used in their places, otherwise copies: see `storage.target_files`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from storage.store import Store
from timestore.errors import RetryableError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileToRead:
    """A stored file, and what its bytes must be."""

    storage: str  # the name of the target that has it
    path: str
    bytes: int
    checksum: str | None = None  # None if nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A stored file on this machine."""

    path: Path
    checksum: Callable[[], str]  # of its bytes, as the catalog spells it; raises ``MissingFileError``


class MissingFileError(RetryableError):
    """A file is not in storage, or not any more."""

    def __init__(self, path: str) -> None:
        name = path.rpartition("/")[2]
        super().__init__("storage_unavailable", f"the data file {name} cannot be read: it is not in storage")


class LocalFiles(Protocol):
    """Gives stored files to those who read them. Thread safe."""

    @property
    def limit_bytes(self) -> int:
        """How many bytes of fetched files can be in use at once, apart from a single file, which always can."""
        ...

    def to_fetch(self, files: Iterable[FileToRead]) -> list[FileToRead]:
        """Return those of some files that are not on this machine, or are only copied to it."""
        ...

    def place(self, file: FileToRead) -> Path:
        """Return where a file is while it is in use."""
        ...

    def use(
        self, files: Sequence[FileToRead], *, deadline: float | None = None
    ) -> AbstractContextManager[list[LocalFile]]:
        """Have some files on this machine, in their order, until the end of the ``with`` block.

        Raises ``storage_unavailable`` (``MissingFileError`` where it can tell), ``disk_full``, and ``overloaded`` when
        others use so much that there is no room. ``deadline`` is one of ``time.monotonic()``.
        """
        ...

    def in_order(
        self, items: Iterable[T], file_of: Callable[[T], FileToRead]
    ) -> Generator[tuple[T, LocalFile], None, None]:
        """Yield items with their files, one after the other; each is in use until the next one. Raises like ``use``.

        Close the generator, if it does not end by itself.
        """
        ...


def is_on_this_machine(store: Store) -> bool:
    """Say whether a store's files can be used in their places."""
    return store.local_path("any") is not None
