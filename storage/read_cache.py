"""Copies of remote files on this machine, as many as a limit of bytes allows.

Published files never change, so a copy is never stale. One appears complete and verified, is fetched once however many
want it, and is not removed while somebody uses it; of the others those go first that were used longest ago.

What is in use counts for the limit, and so does what is being fetched. Whoever needs more room than others leave waits,
holding nothing meanwhile: so those who hold something are never waiting for each other. A file that is larger than the
limit is fetched when nothing else is in use. What is fetched ahead leaves half of the limit to others.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import xxhash

from storage.fetching import fetch
from storage.local_files import FileToRead, LocalFile
from storage.targets import Targets
from timestore.errors import TimestoreError, error

T = TypeVar("T")

FETCHES = 8  # at once
AHEAD = 4  # files of one read: the one that is read, and the next ones
ROOM_TIMEOUT_S = 10.0
POLL_S = 0.1
FETCH_TIMEOUT_S = 600.0
RETRY_AFTER_S = 1.0


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry:
    """A copy, or one to be. ``pins`` counts who uses it; its own fetch is one of them."""

    name: str
    file: FileToRead
    path: Path
    pins: int = 0
    checksum: Future[str] = field(default_factory=Future)  # done when the copy is there


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """How a cache is used: bytes now, files since its start."""

    bytes: int
    pinned_bytes: int
    limit_bytes: int
    hits: int
    misses: int


class ReadCache:
    """The copies in one directory, which it has for itself, empty at first. Thread safe."""

    def __init__(
        self, *, targets: Targets, directory: Path, limit_bytes: int, make_room: Callable[[], object] = lambda: None
    ) -> None:
        self._targets = targets
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._make_room = make_room  # called while somebody waits: may end reads that only hold what they have
        self._changed = threading.Condition()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # by name; used longest ago first
        self._leaving: set[str] = set()  # names whose bytes are being removed
        self._bytes = 0  # of all entries
        self._pinned_bytes = 0
        self._hits = 0
        self._misses = 0
        self._stop = threading.Event()
        self._fetches: ThreadPoolExecutor | None = None

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    def use_now(self) -> CacheUse:
        """Say how the cache is used."""
        with self._changed:
            return CacheUse(
                bytes=self._bytes,
                pinned_bytes=self._pinned_bytes,
                limit_bytes=self._limit_bytes,
                hits=self._hits,
                misses=self._misses,
            )

    def open(self) -> None:
        """Start the threads that fetch."""
        self._fetches = ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch")

    def close(self) -> None:
        """End what is being fetched at its next step; those who wait for it hear ``shutting_down``."""
        self._stop.set()
        if self._fetches is not None:
            self._fetches.shutdown(wait=False)  # a store that hangs is not to keep the server from stopping

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def place(self, file: FileToRead) -> Path:
        """Return where the copy of a file is while it is in use; files of two targets never share one."""
        place = f"{self._targets.of(file.storage).url(file.path)} of {file.storage}"  # URLs do not say which endpoint
        return self._directory / f"{xxhash.xxh3_128_hexdigest(place.encode())}.duckdb"

    @contextmanager
    def use(self, files: Sequence[FileToRead], *, deadline: float | None = None) -> Iterator[list[LocalFile]]:
        patience_s = ROOM_TIMEOUT_S if deadline is None else min(ROOM_TIMEOUT_S, deadline - time.monotonic())
        if (entries := self._pin(files, patience_s=patience_s)) is None:
            raise self._no_room(files)
        try:
            yield [_local_file(entry, deadline or time.monotonic() + FETCH_TIMEOUT_S) for entry in entries]
        finally:
            self._unpin(entries)

    def in_order(
        self, items: Iterable[T], file_of: Callable[[T], FileToRead]
    ) -> Generator[tuple[T, LocalFile], None, None]:
        upcoming = iter(items)
        ahead: deque[tuple[T, list[_Entry]]] = deque()
        try:
            item = next(upcoming, None)
            while ahead or item is not None:
                while item is not None and len(ahead) < AHEAD:
                    file = file_of(item)
                    entries = self._pin_ahead(file) if ahead else self._pin([file], patience_s=ROOM_TIMEOUT_S)
                    if entries is None and ahead:
                        break
                    if entries is None:
                        raise self._no_room([file])
                    ahead.append((item, entries))
                    item = next(upcoming, None)
                first, [entry] = ahead[0]
                yield first, _local_file(entry, time.monotonic() + FETCH_TIMEOUT_S)
                self._unpin(ahead.popleft()[1])
        finally:
            for _, entries in ahead:
                self._unpin(entries)

    def _pin(self, files: Sequence[FileToRead], *, patience_s: float) -> list[_Entry] | None:
        """Pin entries for all of some files, or, where there is no room in time, for none; start what is missing."""
        deadline = time.monotonic() + patience_s
        while (entries := self._try_to_pin(files, self._limit_bytes, timeout_s=POLL_S)) is None:
            if time.monotonic() >= deadline:
                return None
            self._make_room()
        return entries

    def _pin_ahead(self, file: FileToRead) -> list[_Entry] | None:
        """Pin an entry that is not needed yet: half of the room is left to those who need theirs."""
        return self._try_to_pin([file], self._limit_bytes // 2, timeout_s=0)

    def _try_to_pin(self, files: Sequence[FileToRead], limit_bytes: int, *, timeout_s: float) -> list[_Entry] | None:
        wanted = {self.place(file).name: file for file in files}
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(wanted, limit_bytes), timeout=timeout_s):
                return None
            missing = {name: file for name, file in wanted.items() if not self._is_there(name)}
            self._hits += len(wanted) - len(missing)
            self._misses += len(missing)
            leaving = self._evict(sum(file.bytes for file in missing.values()), keep=wanted)
            new = [self._add(name, file) for name, file in missing.items()]
            entries = [self._entries[self.place(file).name] for file in files]
            for entry in entries:
                self._pin_entry(entry)
        self._remove(leaving)
        for entry in new:
            self._start(entry)
        return entries

    def _has_room(self, wanted: dict[str, FileToRead], limit_bytes: int) -> bool:
        """Say whether some files fit beside all that others use; if nobody uses anything, they may be too large."""
        if not self._leaving.isdisjoint(wanted):
            return False
        ours = sum(entry.file.bytes for name in wanted if (entry := self._entries.get(name)) and entry.pins)
        others = self._pinned_bytes - ours
        return others == 0 or others + sum(file.bytes for file in wanted.values()) <= limit_bytes

    def _is_there(self, name: str) -> bool:
        """Say whether an entry can be used. One whose copy somebody else has removed is forgotten."""
        entry = self._entries.get(name)
        if entry is not None and entry.checksum.done() and not entry.path.exists():
            self._forget(entry)
            return False
        return entry is not None

    def _add(self, name: str, file: FileToRead) -> _Entry:
        """Add an entry that its fetch has pinned."""
        entry = self._entries[name] = _Entry(name=name, file=file, path=self._directory / name)
        self._bytes += file.bytes
        self._pin_entry(entry)
        return entry

    def _evict(self, room_bytes: int, *, keep: Container[str] = ()) -> list[_Entry]:
        """Choose entries that nobody uses to go until there is room."""
        leaving = []
        for entry in self._entries.values():
            if self._bytes + room_bytes <= self._limit_bytes:
                break
            if not entry.pins and entry.name not in keep:
                leaving.append(entry)
                self._bytes -= entry.file.bytes
        for entry in leaving:
            del self._entries[entry.name]
            self._leaving.add(entry.name)
        return leaving

    def _remove(self, leaving: Sequence[_Entry]) -> None:
        """Remove the bytes of evicted entries; until then nobody fetches them again."""
        for entry in leaving:
            with suppress(OSError):  # what stays is removed at the next start
                entry.path.unlink(missing_ok=True)
        with self._changed:
            self._leaving -= {entry.name for entry in leaving}
            self._changed.notify_all()

    def _start(self, entry: _Entry) -> None:
        assert self._fetches is not None  # open
        try:
            self._fetches.submit(self._fetch, entry)
        except RuntimeError:
            self._fail(entry, error("shutting_down", "the server is stopping"))

    def _fetch(self, entry: _Entry) -> None:
        try:
            checksum = fetch(self._targets.of(entry.file.storage), entry.file, entry.path, stop=self._stop)
        except BaseException as exc:  # noqa: BLE001  # the top of a thread: those who wait for the copy hear of it
            self._fail(entry, exc)
        else:
            self._unpin([entry])
            entry.checksum.set_result(checksum)

    def _fail(self, entry: _Entry, failure: BaseException) -> None:
        """Let the next one who wants a file fetch it again. A full disk gets back what nobody uses."""
        is_full = isinstance(failure, TimestoreError) and failure.kind == "disk_full"
        with self._changed:
            self._forget(entry)
            leaving = self._evict(self._limit_bytes) if is_full else []
        self._remove(leaving)
        self._unpin([entry])
        entry.checksum.set_exception(failure)

    def _forget(self, entry: _Entry) -> None:
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
            self._bytes -= entry.file.bytes

    def _pin_entry(self, entry: _Entry) -> None:
        if not entry.pins:
            self._pinned_bytes += entry.file.bytes
        entry.pins += 1
        self._entries.move_to_end(entry.name)

    def _unpin(self, entries: Sequence[_Entry]) -> None:
        with self._changed:
            for entry in entries:
                entry.pins -= 1
                if not entry.pins:
                    self._pinned_bytes -= entry.file.bytes
            self._changed.notify_all()

    def _no_room(self, files: Sequence[FileToRead]) -> TimestoreError:
        return error(
            "overloaded",
            f"the read cache has {self._limit_bytes} bytes, and other reads use so much of them that "
            f"{sum(file.bytes for file in files)} more do not fit; try again shortly, or raise read_cache",
            details={"limit": self._limit_bytes},
            retry_after_s=RETRY_AFTER_S,
        )


def _local_file(entry: _Entry, deadline: float) -> LocalFile:
    """Wait for a copy; raises what its fetch has failed with."""
    try:
        checksum = entry.checksum.result(timeout=max(deadline - time.monotonic(), 0))
    except FutureTimeoutError as exc:
        name = entry.file.path.rpartition("/")[2]
        raise error("storage_unavailable", f"the data file {name} was not fetched in time; try again") from exc
    return LocalFile(path=entry.path, checksum=lambda: checksum)
