"""What the data files in storage say: which whole appends are there that a catalog does not know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from uuid import UUID

from catalog.inventory import Inventory, Owner
from readers.file_reader import FileReader
from readers.provenance import Provenance, RecordedAppend
from storage.local_files import FileToRead, LocalFiles
from storage.paths import data_file_path
from storage.store import Store, StoredObject
from storage.targets import Targets
from timestore.errors import TimestoreError
from timestore.json_object import JsonObject
from timestore.names import PartitionKey
from timestore.windows import TimeWindow, to_seconds

BATCH_OBJECTS = 500
_SUFFIX = ".duckdb"


class Reason(StrEnum):
    """Why files are left alone."""

    UNREADABLE = "unreadable"  # DuckDB cannot read it, its rows are not those it was written with, or it is newer
    MISPLACED = "misplaced"  # it does not lie where its own words put it: a copy, or another root's
    SEALED = "sealed"  # it has rows of several appends
    INCOMPLETE = "incomplete"  # the append's other files are not there: it was never finished, or has expired in part
    DISAGREEING = "disagreeing"  # there are two whole appends of one idempotency key, which are not the same
    KEY_TAKEN = "key_taken"  # the catalog has another append of this idempotency key, or it was abandoned
    UNFIT = "unfit"  # the dataset does not take such rows
    FULL = "full"  # the dataset would be larger than it may


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAlone:
    """Files that are not published, and stay where they are."""

    reason: Reason
    why: str
    storage: str  # name of the storage target
    paths: tuple[str, ...]
    dataset: str | None = None
    idempotency_key: str | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "reason": str(self.reason),
            "why": self.why,
            "storage": self.storage,
            "dataset": self.dataset,
            "idempotency_key": self.idempotency_key,
            "paths": list(self.paths),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A data file that the catalog does not know: as little of it as sorting needs."""

    storage: str
    path: str
    bytes: int
    file_id: UUID
    dataset: str
    window: TimeWindow
    written_at: datetime
    append: RecordedAppend
    replaces: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAppend:
    """All files of an append, in their order, with every row that its put had sent."""

    storage: str
    dataset: str
    append_id: UUID
    idempotency_key: str
    fingerprint: str
    rows: int
    files: tuple[FoundFile, ...]

    def left(self, reason: Reason, why: str) -> LeftAlone:
        paths = tuple(file.path for file in self.files)
        return LeftAlone(
            reason=reason,
            why=why,
            storage=self.storage,
            paths=paths,
            dataset=self.dataset,
            idempotency_key=self.idempotency_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found: whole appends in the order of their ids, which is that of time, and what is left alone."""

    appends: list[FoundAppend]
    left: list[LeftAlone]


def survey(
    *,
    targets: Targets,
    inventories: Iterable[Inventory],
    files: LocalFiles,
    reader: FileReader,
    on_looked_at: Callable[[], object] = lambda: None,
) -> Survey:
    """Ask every data file that the catalog does not know about itself; each takes a few hundred bytes of memory.

    ``inventories`` say in which storage targets to look. Raises ``storage_unavailable`` or ``disk_full`` where a file
    cannot be fetched: that says nothing about the file.
    """
    left: list[LeftAlone] = []
    found: list[FoundFile] = []
    for inventory in inventories:
        for each in _unknown_objects(targets.of(inventory.storage), inventory):
            match _found_file(files, reader, inventory.storage, each):
                case FoundFile() as file:
                    found.append(file)
                case LeftAlone() as unfit:
                    left.append(unfit)
            on_looked_at()
    replaced = {file_id for file in found for file_id in file.replaces}
    whole = []
    for append in _gathered(file for file in found if file.file_id not in replaced):
        match append:
            case FoundAppend():
                whole.append(append)
            case LeftAlone():
                left.append(append)
    chosen, disagreeing = _one_for_each_key(whole)
    return Survey(appends=sorted(chosen, key=lambda append: append.append_id), left=left + disagreeing)


def key_of(says: Provenance) -> PartitionKey:
    """Return the semantic key of a file's rows."""
    return PartitionKey.parse(JsonObject.parse(says.key.encode(), what="key").all_texts())


def window_of(says: Provenance) -> TimeWindow:
    """Return the window of a file's rows."""
    return TimeWindow(start_s=to_seconds(says.window_start), end_s=to_seconds(says.window_end))


def _unknown_objects(store: Store, inventory: Inventory) -> Iterator[StoredObject]:
    """Yield the data files that no version of the catalog has, and none had that was removed since."""
    listing = (each for each in store.list() if each.path.endswith(_SUFFIX))
    while batch := list[StoredObject](islice(listing, BATCH_OBJECTS)):
        owners = inventory.owners([each.path for each in batch])
        yield from (each for each in batch if owners.get(each.path) not in (Owner.LISTED, Owner.CONDEMNED))


def _found_file(files: LocalFiles, reader: FileReader, storage: str, stored: StoredObject) -> FoundFile | LeftAlone:
    path = stored.path
    with files.use([FileToRead(storage=storage, path=path, bytes=stored.bytes)]) as [local]:
        try:
            says = reader.provenance(local.path)
            window, key = window_of(says), key_of(says)
        except TimestoreError as failure:
            return LeftAlone(reason=Reason.UNREADABLE, why=failure.message, storage=storage, paths=(path,))
    own_path = data_file_path(dataset=says.dataset, key=key, window=window, file_id=says.file_id)
    if path != own_path:
        return LeftAlone(
            reason=Reason.MISPLACED,
            why=f"it says that it is {own_path}",
            storage=storage,
            paths=(path,),
            dataset=says.dataset,
        )
    if len(says.appends) != 1:
        why = f"it has rows of {len(says.appends)} appends, and cannot be taken apart"
        return LeftAlone(reason=Reason.SEALED, why=why, storage=storage, paths=(path,), dataset=says.dataset)
    return FoundFile(
        storage=storage,
        path=path,
        bytes=stored.bytes,
        file_id=says.file_id,
        dataset=says.dataset,
        window=window,
        written_at=says.written_at,
        append=says.appends[0],
        replaces=says.replaces,
    )


def _gathered(files: Iterable[FoundFile]) -> Iterator[FoundAppend | LeftAlone]:
    """Put the files of each append together; without all of its rows it is none."""
    by_append: dict[tuple[str, str, UUID], list[FoundFile]] = defaultdict(list)
    for file in files:
        by_append[file.storage, file.dataset, file.append.append_id].append(file)
    for (storage, dataset, append_id), group in by_append.items():
        # Files are planned one after the other, and an id says no more than the millisecond.
        group.sort(key=lambda file: (file.written_at, file.file_id))
        yield _append_of(storage, dataset, append_id, group)


def _append_of(storage: str, dataset: str, append_id: UUID, files: Sequence[FoundFile]) -> FoundAppend | LeftAlone:
    said = {(f.append.fingerprint, f.append.total_rows) for f in files if f.append.fingerprint is not None}
    rows = sum(file.append.rows for file in files)
    if len(said) == 1:
        [(fingerprint, total_rows)] = said
        if fingerprint is not None and rows == total_rows:
            return FoundAppend(
                storage=storage,
                dataset=dataset,
                append_id=append_id,
                idempotency_key=files[0].append.idempotency_key,
                fingerprint=fingerprint,
                rows=rows,
                files=tuple(files),
            )
    total = " or ".join(str(total_rows) for _, total_rows in said) or "an unknown number"
    return LeftAlone(
        reason=Reason.INCOMPLETE,
        why=f"its files have {rows} rows of {total}",
        storage=storage,
        paths=tuple(file.path for file in files),
        dataset=dataset,
        idempotency_key=files[0].append.idempotency_key,
    )


def _one_for_each_key(appends: Iterable[FoundAppend]) -> tuple[list[FoundAppend], list[LeftAlone]]:
    """Choose one append for each idempotency key: the first of those that are the same, none of those that disagree."""
    by_key: dict[tuple[str, str, str], list[FoundAppend]] = defaultdict(list)
    for append in appends:
        by_key[append.storage, append.dataset, append.idempotency_key].append(append)
    chosen, left = [], []
    for group in by_key.values():
        first, *others = sorted(group, key=lambda append: append.append_id)
        if len({append.fingerprint for append in group}) == 1:
            chosen.append(first)
            left += [
                other.left(Reason.KEY_TAKEN, "the same rows were found twice; the first is taken") for other in others
            ]
        else:
            left += [
                append.left(Reason.DISAGREEING, "another whole append has this idempotency key") for append in group
            ]
    return chosen, left
