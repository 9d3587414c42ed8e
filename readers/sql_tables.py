"""The tables that a query reads: datasets, each at one version, and the files that have their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from access.principal import Principal
from catalog.manifests import Manifests
from catalog.records import VisibleSlice
from readers.slice_files import file_of
from readers.sql_views import FileExtent, ViewFile, column_types, stand_in_statements, view_statements
from readers.visible import VisibleDatasets
from storage.local_files import FileToRead
from timestore.datasets import Dataset
from timestore.errors import TimestoreError, error
from timestore.flight_sql.statements import PinnedDataset
from timestore.json_object import JsonObject
from timestore.reading import AsOf, Selection

MAX_FILES = 4_000  # attached at once; each takes about 0.3 MB of memory and one descriptor
DEFAULT_TIMEOUT_S = 30.0
_NEWEST = AsOf()


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQuery:
    """A query, and the versions that it is for."""

    text: str
    as_of: AsOf = _NEWEST  # of every dataset that ``versions`` does not name; a number only if there is one dataset
    versions: Mapping[str, int] = field(default_factory=dict)  # by dataset
    pinned: Mapping[str, PinnedDataset] | None = None  # by dataset: what it was planned at; it reads no others
    parameters: bytes | None = None  # rows of parameters, as an Arrow IPC stream
    max_rows: int | None = None  # more is an error
    timeout_s: float = DEFAULT_TIMEOUT_S  # up to the last row


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlTable:
    """A dataset at one version."""

    alias: str  # the beginning of its files' names in DuckDB
    dataset: Dataset
    version: int
    schema: pa.Schema
    slices: tuple[VisibleSlice, ...]

    @property
    def name(self) -> str:
        return self.dataset.spec.name

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The columns that the table has in SQL, with their types."""
        return column_types(self.schema, self.dataset.key_names or ())

    @property
    def pinned(self) -> PinnedDataset:
        """What makes this version of this dataset again."""
        return PinnedDataset(incarnation=self.dataset.spec.incarnation, version=self.version)

    @property
    def files(self) -> list[FileToRead]:
        return [file_of(item) for item in self.slices]

    def view(self, paths: Iterable[Path]) -> Iterator[str]:
        """Yield the statements that make the table, from the files of its slices."""
        parts = [ViewFile(path=str(path), key=_key_of(item)) for item, path in zip(self.slices, paths, strict=True)]
        key_names = self.dataset.key_names or ()
        return view_statements(self.name, self.schema, key_names, parts, alias=self.alias, kind="VIEW")

    def stand_ins(self) -> Iterator[str]:
        """Yield the statements that make the table without its files, to ask DuckDB which ones a query needs."""
        extents = [
            FileExtent(key=_key_of(item), min_ts_ns=item.min_ts_ns, max_ts_ns=item.max_ts_ns) for item in self.slices
        ]
        spec, key_names = self.dataset.spec, self.dataset.key_names or ()
        return stand_in_statements(spec.name, self.schema, key_names, spec.timestamp_column, extents, alias=self.alias)

    def narrowed(self, stand_ins: Iterable[str]) -> SqlTable:
        """Return the table with those files alone whose stand-ins are named."""
        names = set(stand_ins)
        kept = (item for number, item in enumerate(self.slices) if f"{self.alias}{number}" in names)
        return replace(self, slices=tuple(kept))


def tables_of(
    manifests: Manifests, names: Sequence[str], query: SqlQuery, principal: Principal, *, with_files: bool = True
) -> list[SqlTable]:
    """Return a table for each dataset among the names that a query reads from and a principal may read.

    Other names may be of the query's own making (WITH); if not, DuckDB says so. Raises ``query_invalid``,
    ``query_too_expensive``, ``permission_denied``, and what resolving a dataset and its version raises.
    """
    tables: list[SqlTable] = []
    room = MAX_FILES
    for number, (dataset, version) in enumerate(_resolved(manifests, names, query, principal)):
        slices = _slices(manifests, dataset, version, room=room) if with_files else ()
        schema = manifests.schema_at(dataset, version)
        tables.append(
            SqlTable(alias=f"d{number}_", dataset=dataset, version=version, schema=schema, slices=tuple(slices))
        )
        room -= len(slices)
    return tables


def _resolved(
    manifests: Manifests, names: Sequence[str], query: SqlQuery, principal: Principal
) -> list[tuple[Dataset, int]]:
    """Return the datasets among the names, each with the version that the query is for."""
    if query.pinned is not None:
        return _pinned(manifests, names, query.pinned, principal)
    distinct = _named(manifests, names, principal)
    if unknown := sorted(set(query.versions) - {dataset.spec.name for dataset in distinct.values()}):
        raise error("query_invalid", f"versions names {unknown}, of which the query reads nothing")
    if query.as_of.version is not None and len(distinct) > 1:
        read = sorted(dataset.spec.name for dataset in distinct.values())
        raise error("query_invalid", f"the query reads {read}: say the version of each in versions, or use as_of")
    return [(dataset, _version(manifests, dataset, query)) for dataset in distinct.values()]


def pin(manifests: Manifests, shapes: Mapping[str, str], principal: Principal) -> dict[str, PinnedDataset] | None:
    """Fix the newest versions of datasets without planning; None if one has not the shape that a plan saw."""
    datasets = {dataset.spec.name: dataset for dataset in _named(manifests, list(shapes), principal).values()}
    if {name: shape_of(dataset) for name, dataset in datasets.items()} != dict(shapes):
        return None
    return {
        name: PinnedDataset(incarnation=dataset.spec.incarnation, version=dataset.version)
        for name, dataset in datasets.items()
    }


def shape_of(dataset: Dataset) -> str:
    """Return what changes whenever a dataset's columns do, those of its key among them."""
    return f"{dataset.spec.incarnation}/{dataset.schema_version}/{len(dataset.key_names or ())}"


def _named(manifests: Manifests, names: Sequence[str], principal: Principal) -> dict[int, Dataset]:
    """Return the datasets of these names, whatever their case, by id, that a principal may read."""
    visible = VisibleDatasets(manifests=manifests)
    found = [dataset for name in names if (dataset := visible.find(name, principal)) is not None]
    return {dataset.dataset_id: dataset for dataset in found}


def _pinned(
    manifests: Manifests, names: Sequence[str], pinned: Mapping[str, PinnedDataset], principal: Principal
) -> list[tuple[Dataset, int]]:
    """Return the datasets that a ticket pins, if what it saw is still there and may be read."""
    visible = VisibleDatasets(manifests=manifests)
    named = {name.lower() for name in names}
    return [
        (visible.dataset_of_ticket(name, each.incarnation, each.version, principal), each.version)
        for name, each in pinned.items()
        if name.lower() in named
    ]


def _version(manifests: Manifests, dataset: Dataset, query: SqlQuery) -> int:
    said = query.versions.get(dataset.spec.name)
    return manifests.resolve(dataset, AsOf(version=said) if said is not None else query.as_of)


def too_expensive(message: str) -> TimestoreError:
    """Return what a query is refused with that wants too much."""
    return error("query_too_expensive", message)


def _slices(manifests: Manifests, dataset: Dataset, version: int, *, room: int) -> list[VisibleSlice]:
    slices: list[VisibleSlice] = []
    for item in manifests.all_slices(dataset, version, Selection()):
        if len(slices) == room:
            raise too_expensive(
                f"the query would open more than {MAX_FILES} files; read {dataset.spec.name!r} by key or time range"
            )
        slices.append(item)
    return slices


def _key_of(item: VisibleSlice) -> dict[str, str]:
    return JsonObject.parse(item.key.encode(), what="key").all_texts()
