"""Publishing anew what data files say, into a catalog that does not know it: an empty one, or a restored older one.

Whole appends only, one for each idempotency key, in the order in which their puts began, each a version of its own.
Every row is read first and compared with what the file says of it. The way of publishing is that of every put: one call
of ``commit_appends``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from catalog.errors import PlanStaleError
from catalog.ledger import Ledger
from catalog.records import CommitPlan, NewAppend, NewSlice, Outcome
from readers.content import read_content
from readers.file_reader import FileReader
from readers.provenance import Provenance
from storage.local_files import FileToRead, LocalFiles
from timestore.datasets import Dataset, DatasetSpec, Evolution, Order
from timestore.errors import TimestoreError
from timestore.names import PartitionKey
from timestore.windows import DAY_S, TimeWindow, WindowLength
from writers.appends import new_append
from writers.planning import plan_append
from writers.schemas import check_schema
from writers.survey import FoundAppend, FoundFile, LeftAlone, Reason, Survey, key_of, window_of

CANNOT_TELL = (
    "order, evolution, bounds, limits and retention of a dataset: new ones have order any, evolution additive, no "
    "bounds, no limits, and keep rows for ever",
    "when an append was committed: versions are numbered in the order in which the puts began, and their times, also "
    "in receipts, are those of this rebuild",
    "how many bytes a put had sent, and how long it took: receipts say the bytes that its rows take in memory",
    "what has no file: appends without rows, datasets and columns without rows, abandoned idempotency keys",
    "what was dropped or has expired: what was still in storage of it is back",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of one dataset."""

    dataset: str
    version: int
    window: str
    is_new: bool  # whether the catalog did not know it
    appends: int
    files: int
    rows: int

    def as_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild has done, and what it has not."""

    datasets: list[Published]
    left: list[LeftAlone]


class _UnfitError(Exception):
    """An append cannot be published, and why."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason
        self.why = why


class Rebuild:
    """Publishes found appends. For one thread, and while no server runs. Repeating it is safe."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        files: LocalFiles,
        reader: FileReader,
        on_published: Callable[[], object] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._reader = reader
        self._on_published = on_published  # called for each append, also one that is left alone

    def publish(self, survey: Survey) -> Rebuilt:
        """Publish what was found whole; raises ``catalog_unavailable``, and what fetching a remote file raises."""
        by_dataset: dict[str, list[FoundAppend]] = defaultdict(list)
        for append in survey.appends:
            by_dataset[append.dataset].append(append)
        left = list(survey.left)
        datasets = []
        for name in sorted(by_dataset):
            published, unfit = self._publish_dataset(name, by_dataset[name])
            datasets += published
            left += unfit
        return Rebuilt(datasets=datasets, left=left)

    def _publish_dataset(self, name: str, appends: Sequence[FoundAppend]) -> tuple[list[Published], list[LeftAlone]]:
        is_new = self._ledger.find_dataset(name) is None
        storage = appends[-1].storage  # of a dataset that is new: the newest append decides
        window = derive_window(
            [[file.window for file in append.files] for append in appends if append.storage == storage]
        )
        done: list[FoundAppend] = []
        left = []
        for append in appends:
            try:
                self._publish_append(append, storage, window)
                done.append(append)
            except _UnfitError as unfit:
                left.append(append.left(unfit.reason, unfit.why))
            self._on_published()
        dataset = self._ledger.find_dataset(name)
        if dataset is None or not done:
            return [], left
        published = Published(
            dataset=name,
            version=dataset.version,
            window=dataset.spec.window.text,
            is_new=is_new,
            appends=len(done),
            files=sum(len(append.files) for append in done),
            rows=sum(append.rows for append in done),
        )
        return [published], left

    def _publish_append(self, append: FoundAppend, storage: str, window: WindowLength | None) -> None:
        """Publish one append, or raise ``_UnfitError``."""
        dataset, known = self._ledger.find_for_put(append.dataset, append.idempotency_key)
        if known is not None:
            same = "the same rows" if known.fingerprint == append.fingerprint else "another append"
            raise _UnfitError(
                Reason.KEY_TAKEN, "it was abandoned" if known.abandoned else f"the catalog has {same} of this key"
            )
        _check_storage(append, dataset.spec.storage if dataset is not None else storage)
        try:
            says = [self._ask(file) for file in append.files]
            plan = _plan(dataset, says, window, append.storage)
            slices = [self._read(file, each) for file, each in zip(append.files, says, strict=True)]
            outcome = self._ledger.adopt(plan, _new_append(append, says, slices))
        except PlanStaleError as exc:
            raise _UnfitError(Reason.UNFIT, "another dataset has this name, or differs from it only in case") from exc
        except TimestoreError as failure:
            if failure.kind not in _ABOUT_THE_ROWS:
                raise
            raise _UnfitError(Reason.UNFIT, failure.message) from failure
        if outcome.outcome is not Outcome.COMMITTED:
            raise _UnfitError(Reason.FULL, f"the dataset has {outcome.visible_bytes} bytes, and may not have more")

    def _ask(self, file: FoundFile) -> Provenance:
        with self._files.use([_to_read(file)]) as [local], _unfit_if_unreadable():
            return self._reader.provenance(local.path)

    def _read(self, file: FoundFile, says: Provenance) -> NewSlice:
        """Read a file whole; raises ``_UnfitError`` if it has not the rows that it says."""
        with self._files.use([_to_read(file)]) as [local], _unfit_if_unreadable():
            content = read_content(self._reader, local.path, says.timestamp_column)
            checksum = local.checksum()
        if content.min_ts_ns is None or content.max_ts_ns is None or content.digest != says.digest:
            raise _UnfitError(Reason.UNREADABLE, f"{file.path} has not the rows that it was written with")
        return NewSlice(
            holder_id=file.file_id,
            storage=file.storage,
            path=file.path,
            bytes=file.bytes,
            checksum=checksum,
            key=key_of(says),
            window=file.window,
            rows=content.rows,
            min_ts_ns=content.min_ts_ns,
            max_ts_ns=content.max_ts_ns,
            digest=content.digest,
        )


def _to_read(file: FoundFile) -> FileToRead:
    return FileToRead(storage=file.storage, path=file.path, bytes=file.bytes)


@contextmanager
def _unfit_if_unreadable() -> Iterator[None]:
    """Leave an append alone of which a file cannot be read; a storage that fails, before that, ends the rebuild."""
    try:
        yield
    except TimestoreError as failure:
        raise _UnfitError(Reason.UNREADABLE, failure.message) from failure


_ABOUT_THE_ROWS = ("schema_mismatch", "type_unsupported", "name_invalid")


def derive_window(appends: Sequence[Sequence[TimeWindow]]) -> WindowLength | None:
    """Return the length of window that explains the windows of the newest append, and most of those before.

    Calendar windows come first, where one is as long as some days. None if nothing explains the newest.
    """
    newest = appends[-1]
    lengths = [length for length in _lengths(newest[0]) if _explains(length, newest)]
    counts = Counter({length.text: sum(_explains(length, each) for each in appends) for length in lengths})
    return max(lengths, key=lambda length: counts[length.text], default=None)


def _lengths(window: TimeWindow) -> Iterator[WindowLength]:
    """Yield every length that a window can have, in its shortest spelling."""
    for text in ("week", "month", "year"):
        yield WindowLength.parse(text)
    span = timedelta(seconds=window.end_s - window.start_s)
    for unit, suffix in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "m")):
        if span % unit == timedelta(0):
            text = f"{span // unit}{suffix}"
            if suffix == "d" or DAY_S % (window.end_s - window.start_s) == 0:
                yield WindowLength.parse(text)
            return


def _explains(length: WindowLength, windows: Sequence[TimeWindow]) -> bool:
    return all(length.containing(window.start_s) == window for window in windows)


def _check_storage(append: FoundAppend, storage: str) -> None:
    """Refuse files that lie in another storage target than their dataset's."""
    if append.storage != storage:
        raise _UnfitError(Reason.UNFIT, f"it lies in the storage {append.storage!r}, its dataset in {storage!r}")


def _plan(dataset: Dataset | None, says: Sequence[Provenance], window: WindowLength | None, storage: str) -> CommitPlan:
    """Plan a commit of files of one append; raises ``_UnfitError``, ``schema_mismatch`` or ``type_unsupported``."""
    first, key = says[0], key_of(says[0])
    if any(
        (each.schema, each.key, each.timestamp_column) != (first.schema, first.key, first.timestamp_column)
        for each in says
    ):
        raise _UnfitError(Reason.UNFIT, "its files differ in key or schema")
    length = dataset.spec.window if dataset is not None else window
    if length is None or not _explains(length, [window_of(each) for each in says]):
        raise _UnfitError(
            Reason.UNFIT, f"its windows are not those of the dataset ({length or 'of no length there is'})"
        )
    if dataset is None:
        return _creation(first, key, length, storage)
    if dataset.spec.name != first.dataset or dataset.spec.timestamp_column != first.timestamp_column:
        raise _UnfitError(
            Reason.UNFIT,
            f"the dataset is {dataset.spec.name!r} with the timestamp column {dataset.spec.timestamp_column!r}, the "
            f"rows are of {first.dataset!r} with {first.timestamp_column!r}",
        )
    return plan_append(dataset, first.schema, key)


def _creation(says: Provenance, key: PartitionKey, window: WindowLength, storage: str) -> CommitPlan:
    """Plan the creation of a dataset from what its first append tells; what that does not tell allows everything."""
    check_schema(says.schema, key)
    spec = DatasetSpec(
        name=says.dataset,
        incarnation=uuid4(),
        timestamp_column=says.timestamp_column,
        window=window,
        order=Order.ANY,
        evolution=Evolution.ADDITIVE,
        storage=storage,
    )
    return CommitPlan(spec=spec, create=True, schema_version=0, new_schema=says.schema, key_names=key.names)


def _new_append(append: FoundAppend, says: Sequence[Provenance], slices: Sequence[NewSlice]) -> NewAppend:
    return new_append(
        dataset=append.dataset,
        key=slices[0].key,
        append_id=append.append_id,
        idempotency_key=append.idempotency_key,
        fingerprint=append.fingerprint,
        rows=append.rows,
        arrow_bytes=sum(each.arrow_bytes for each in says),  # what was received, nobody knows any more
        principal=None,
        slices=slices,
        timings_ms={},
    )
