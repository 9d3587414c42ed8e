"""Catalog and storage compared, both ways.

An object is listed first, and the catalog asked about it afterwards. Intents are recorded before the first byte, so
whatever the catalog does not know then, it has not known before either: that object is an orphan, not a file in flight.
The other way round each file that the catalog has is looked for in storage. Servers may run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from catalog.inventory import CatalogedFile, Inventory, Owner
from readers.content import FileContent, read_content
from readers.file_reader import FileReader
from readers.provenance import Provenance
from storage.horizon import is_horizon
from storage.local_files import FileToRead, LocalFile, LocalFiles, MissingFileError
from storage.marker import MARKER_PATH
from storage.store import Store, StoredObject
from timestore.errors import TimestoreError

BATCH_OBJECTS = 500
_PARTIAL = ".partial"  # what a local store writes beside an object before it appears whole


class FindingKind(StrEnum):
    """What is the matter with a file."""

    MISSING = "missing"  # versions have it, the storage does not
    SIZE = "size"
    CHECKSUM = "checksum"
    UNREADABLE = "unreadable"  # its bytes are those that were written, and DuckDB cannot read them
    ROWS = "rows"
    DIGEST = "digest"
    CONTRADICTION = "contradiction"  # what it says about itself is not what the catalog says
    ORPHAN = "orphan"  # nobody knows it
    IN_FLIGHT = "in_flight"  # it is being written, or a server died over it: the sweeper knows
    CONDEMNED = "condemned"  # it is about to be deleted
    UNREACHABLE = "unreachable"  # a whole storage target, of which nothing was compared

    @property
    def is_problem(self) -> bool:
        """Say whether somebody has to do something about it."""
        return self not in (FindingKind.IN_FLIGHT, FindingKind.CONDEMNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing about one object."""

    kind: FindingKind
    path: str
    found: str
    dataset: str | None = None  # of a file that versions have

    def as_json(self) -> dict[str, object]:
        return {"kind": str(self.kind), "path": self.path, "dataset": self.dataset, "found": self.found}


_OWNED = {
    Owner.INTENT: (
        FindingKind.IN_FLIGHT,
        "is being written, or was left by a server that died; nobody has to do anything",
    ),
    Owner.CONDEMNED: (FindingKind.CONDEMNED, "is of no version any more, and will be deleted"),
}


class Fsck:
    """Compares a catalog with one of its storage targets; changes neither. Memory does not grow with their files.

    With a reader, every file is read whole: its bytes, its rows, and what it says about itself.
    """

    def __init__(
        self,
        *,
        inventory: Inventory,
        store: Store,
        files: LocalFiles,
        reader: FileReader | None = None,
        on_looked_at: Callable[[], object] = lambda: None,
    ) -> None:
        self._inventory = inventory
        self._store = store
        self._files = files
        self._reader = reader
        self._on_looked_at = on_looked_at  # called for each object, and for each file
        self.objects = 0  # in storage, that were looked at
        self.files = 0  # of versions, that were looked for

    def run(self) -> Iterator[Finding]:
        """Yield what is found, as it is found; raises ``storage_unavailable`` or ``catalog_unavailable``."""
        yield from self._unlisted_objects()
        for file in self._inventory.files():
            yield from self._check(file)
            self.files += 1
            self._on_looked_at()

    def _unlisted_objects(self) -> Iterator[Finding]:
        listing = (each for each in self._store.list() if each.path != MARKER_PATH and not is_horizon(each.path))
        while batch := list(islice(listing, BATCH_OBJECTS)):
            yield from self._unlisted_among(batch)

    def _unlisted_among(self, batch: Sequence[StoredObject]) -> Iterator[Finding]:
        owners = self._inventory.owners([path for each in batch for path in {each.path, _whole(each.path)}])
        for each in batch:
            owner = owners.get(each.path) or _owner_of_partial(owners, each.path)
            if owner is None:
                yield from self._orphan(each)
            elif owner is not Owner.LISTED:
                kind, found = _OWNED[owner]
                yield Finding(kind=kind, path=each.path, found=found)
            self.objects += 1
            self._on_looked_at()

    def _orphan(self, each: StoredObject) -> Iterator[Finding]:
        if self._store.stat(each.path) is not None:  # not given up, deleted and forgotten since it was listed
            found = f"is known to nobody ({each.bytes} bytes); delete it, or see timestore rebuild"
            yield Finding(kind=FindingKind.ORPHAN, path=each.path, found=found)

    def _check(self, file: CatalogedFile) -> Iterator[Finding]:
        stored = self._store.stat(file.path)
        if stored is None:
            yield from self._missing(file)
        elif stored.bytes != file.bytes:
            yield _finding(file, FindingKind.SIZE, f"has {stored.bytes} bytes, not {file.bytes}")
        elif self._reader is not None:
            yield from self._check_content(file, self._reader)

    def _missing(self, file: CatalogedFile) -> Iterator[Finding]:
        if self._inventory.owners([file.path]).get(file.path) is Owner.LISTED:  # not purged since its page was read
            yield _finding(file, FindingKind.MISSING, "is not in storage; restore it from a backup")

    def _check_content(self, file: CatalogedFile, reader: FileReader) -> Iterator[Finding]:
        wanted = FileToRead(storage=self._inventory.storage, path=file.path, bytes=file.bytes)
        try:
            with self._files.use([wanted]) as [local]:
                yield from _check_local(file, local, reader)
        except MissingFileError:
            yield from self._missing(file)


def _check_local(file: CatalogedFile, local: LocalFile, reader: FileReader) -> Iterator[Finding]:
    if (checksum := local.checksum()) != file.checksum:
        yield _finding(file, FindingKind.CHECKSUM, f"has the checksum {checksum}, not {file.checksum}")
        return  # nobody opens a damaged file
    try:
        says = reader.provenance(local.path)
        yield from _compare(file, says)
        yield from _compare_rows(file, read_content(reader, local.path, says.timestamp_column))
    except TimestoreError as failure:
        yield _finding(file, FindingKind.UNREADABLE, failure.message)


def _finding(file: CatalogedFile, kind: FindingKind, found: str) -> Finding:
    return Finding(kind=kind, path=file.path, dataset=file.dataset, found=found)


def _compare(file: CatalogedFile, says: Provenance) -> Iterator[Finding]:
    """Compare what a file says about itself with what the catalog says."""
    pairs = (
        ("id", says.file_id, file.holder_id),
        ("dataset", says.dataset, file.dataset),
        ("key", says.key, file.key),
        ("window", (says.window_start, says.window_end), (file.window_start, file.window_end)),
        ("rows", says.rows, file.rows),
        ("digest", says.digest, file.digest),
        ("appends", tuple(append.append_id for append in says.appends), file.append_ids),
    )
    for what, said, cataloged in pairs:
        if said != cataloged:
            yield _finding(file, FindingKind.CONTRADICTION, f"says {what} {said}, the catalog says {cataloged}")


def _compare_rows(file: CatalogedFile, content: FileContent) -> Iterator[Finding]:
    if content.rows != file.rows:
        yield _finding(file, FindingKind.ROWS, f"has {content.rows} rows, not {file.rows}")
    elif content.digest != file.digest:
        yield _finding(file, FindingKind.DIGEST, f"has rows with the digest {content.digest}, not {file.digest}")


def _whole(path: str) -> str:
    return path.removesuffix(_PARTIAL)


def _owner_of_partial(owners: dict[str, Owner], path: str) -> Owner | None:
    """Return who owns an object that has not appeared yet. That of a listed file is of no use any more: an orphan."""
    owner = owners.get(_whole(path))
    return None if owner is Owner.LISTED else owner
