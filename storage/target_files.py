"""The files of all storage targets on this machine: in their places, or copied from where they are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from storage.checksums import checksum_of
from storage.local_files import FileToRead, LocalFile, MissingFileError, is_on_this_machine
from storage.read_cache import ReadCache
from storage.store import Store
from storage.targets import Targets

T = TypeVar("T")


class TargetFiles:
    """Uses files in place where their target is on this machine, and the cache for all others. Thread safe.

    See ``LocalFiles``. Files in place are neither copied nor looked at before they are read.
    """

    def __init__(self, *, targets: Targets, cache: ReadCache) -> None:
        self._targets = targets
        self._cache = cache

    @property
    def limit_bytes(self) -> int:
        return self._cache.limit_bytes

    def to_fetch(self, files: Iterable[FileToRead]) -> list[FileToRead]:
        return [file for file in files if not self._is_here(file.storage)]

    def place(self, file: FileToRead) -> Path:
        return self._targets.of(file.storage).local_path(file.path) or self._cache.place(file)

    @contextmanager
    def use(self, files: Sequence[FileToRead], *, deadline: float | None = None) -> Iterator[list[LocalFile]]:
        remote = self.to_fetch(files)
        with ExitStack() as stack:  # all copies at once: nobody holds some and waits for others
            copies = iter(stack.enter_context(self._cache.use(remote, deadline=deadline)) if remote else ())
            fetched = {(file.storage, file.path): copy for file, copy in zip(remote, copies, strict=True)}
            yield [fetched.get((file.storage, file.path)) or self._in_place(file) for file in files]

    def in_order(
        self, items: Iterable[T], file_of: Callable[[T], FileToRead]
    ) -> Generator[tuple[T, LocalFile], None, None]:
        for storage, group in groupby(items, lambda item: file_of(item).storage):
            if self._is_here(storage):
                yield from ((item, self._in_place(file_of(item))) for item in group)
            else:
                yield from self._cache.in_order(group, file_of)

    def _is_here(self, storage: str) -> bool:
        return is_on_this_machine(self._targets.of(storage))

    def _in_place(self, file: FileToRead) -> LocalFile:
        store = self._targets.of(file.storage)
        path = store.local_path(file.path)
        assert path is not None  # see ``is_on_this_machine``
        return LocalFile(path=path, checksum=lambda: _checksum(store, file.path))


def _checksum(store: Store, path: str) -> str:
    try:
        with store.open(path) as stream:
            return checksum_of(stream)
    except FileNotFoundError as exc:
        raise MissingFileError(path) from exc
