"""Rows back out of a dataset, at a version: plan the parts of a read, then stream each."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from access.grants import Permission
from access.principal import Principal
from catalog.manifests import Manifests
from catalog.records import PartitionRun, VisibleSlice
from readers.file_reader import FileReader, ReaderPool
from readers.plain import encoded_batches, plain_schema, reshape, take_batch
from readers.slice_files import file_of
from readers.stamps import stamps, units_per_second
from readers.visible import KNOW, VisibleDatasets
from storage.local_files import LocalFiles
from timestore.datasets import Dataset
from timestore.errors import error
from timestore.json_object import JsonObject
from timestore.reading import AsOf, ReadDescriptor, Selection, Ticket
from timestore.windows import EPOCH

MAX_ENDPOINTS = 1_000
PAGE_DATASETS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPart:
    """What one endpoint of a FlightInfo serves."""

    ticket: Ticket
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """The schema of a read and its parts, ordered by window, key and version."""

    schema: pa.Schema
    parts: list[ReadPart]


class Reads:
    """Plans and streams reads. Thread safe. Whoever may not read hears ``permission_denied``, whatever there is."""

    def __init__(self, *, manifests: Manifests, files: LocalFiles, pool: ReaderPool) -> None:
        self._manifests = manifests
        self._visible = VisibleDatasets(manifests=manifests)
        self._files = files
        self._pool = pool

    def plan(self, descriptor: ReadDescriptor, principal: Principal) -> ReadPlan:
        """Resolve a read to a version and cut it into parts.

        Raises ``dataset_not_found``, ``version_not_found``, ``version_expired`` or ``schema_mismatch``.
        """
        dataset = self._visible.dataset(descriptor.dataset, principal, Permission.READ)
        version = self._manifests.resolve(dataset, descriptor.as_of)
        selection = descriptor.selection
        schema = self._result_schema(dataset, version, selection)
        runs = self._manifests.partition_runs(dataset, version, selection, groups=MAX_ENDPOINTS)
        ticket = Ticket(
            dataset=dataset.spec.name, incarnation=dataset.spec.incarnation, version=version, selection=selection
        )
        return ReadPlan(schema=schema, parts=[_part(ticket, run) for run in runs])

    def listing(self, prefix: str, principal: Principal) -> Iterator[tuple[ReadDescriptor, ReadPlan]]:
        """Yield a read of everything in each dataset whose name begins with ``prefix``, at its newest version, by name.

        Only datasets that the principal may know of are among them.
        Costs nothing for each dataset: the catalog has their totals.
        """
        after = ""
        while page := self._visible.datasets(principal, after=after, limit=PAGE_DATASETS, prefix=prefix):
            for dataset in page:
                yield _everything(dataset)
            after = page[-1].spec.name

    def schema(self, descriptor: ReadDescriptor, principal: Principal) -> pa.Schema:
        """Return the schema of a read without planning it; raises like ``plan``."""
        dataset = self._visible.dataset(descriptor.dataset, principal, *KNOW)
        version = self._manifests.resolve(dataset, descriptor.as_of)
        return self._result_schema(dataset, version, descriptor.selection)

    def open(self, ticket: Ticket, principal: Principal) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Resolve a ticket and return its schema and rows; raises like ``plan``."""
        dataset = self._visible.dataset_of_ticket(ticket.dataset, ticket.incarnation, ticket.version, principal)
        schema = self._result_schema(dataset, ticket.version, ticket.selection)
        return schema, self._stream(dataset, ticket, schema)

    def _result_schema(self, dataset: Dataset, version: int, selection: Selection) -> pa.Schema:
        """Return the dataset's schema at a version, projected, with the key's columns if asked for."""
        schema = self._manifests.schema_at(dataset, version)
        columns = selection.columns if selection.columns is not None else tuple(schema.names)
        if missing := [name for name in columns if schema.get_field_index(name) < 0]:
            raise error(
                "schema_mismatch",
                f"{dataset.spec.name!r} has no column {missing[0]!r} at version {version}; it has {schema.names}",
                details={"column": missing[0]},
            )
        fields = [schema.field(name) for name in columns]
        key_fields = [pa.field(name, pa.string()) for name in dataset.key_names or ()] if selection.with_key else []
        return pa.schema(fields + key_fields, metadata=schema.metadata)

    def _stream(self, dataset: Dataset, ticket: Ticket, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        slices = self._manifests.all_slices(
            dataset, ticket.version, ticket.selection, first=ticket.first, last=ticket.last
        )
        with self._pool.reader() as lent:
            column, selection = dataset.spec.timestamp_column, ticket.selection
            yield from lent.stream(self._batches(lent.reader, slices, column, selection, schema))

    def _batches(
        self,
        reader: FileReader,
        slices: Iterator[VisibleSlice],
        timestamp_column: str,
        selection: Selection,
        schema: pa.Schema,
    ) -> Generator[pa.RecordBatch, None, None]:
        with closing(self._files.in_order(slices, file_of)) as files:
            for item, file in files:
                yield from _slice_batches(reader, item, file.path, timestamp_column, selection, schema)


def _slice_batches(
    reader: FileReader,
    item: VisibleSlice,
    path: Path,
    timestamp_column: str,
    selection: Selection,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    facts = reader.facts(path)
    wanted = [name for name in schema.names if facts.schema.get_field_index(name) >= 0]
    cut = _Cut.of(selection, item)
    needed = wanted if not cut or timestamp_column in wanted else [*wanted, timestamp_column]
    needed = needed or [timestamp_column]  # older files may have none of the columns: their rows are nulls
    key = JsonObject.parse(item.key.encode(), what="key").all_texts() if selection.with_key else {}
    shape = plain_schema(schema)
    for batch in reader.batches(path, facts, needed):
        kept = cut.apply(batch, timestamp_column) if cut else batch
        if kept.num_rows:
            yield from encoded_batches(_shaped(kept, shape, key), schema)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A time range that a slice only partly lies in."""

    start: datetime | None
    end: datetime | None

    @classmethod
    def of(cls, selection: Selection, item: VisibleSlice) -> _Cut | None:
        """Return what must be cut from a slice; None if all its rows are wanted."""
        start = selection.start if selection.start and _units(selection.start, 10**9) > item.min_ts_ns else None
        end = selection.end if selection.end and _units(selection.end, 10**9) <= item.max_ts_ns else None
        return cls(start, end) if start or end else None

    def apply(self, batch: pa.RecordBatch, timestamp_column: str) -> pa.RecordBatch:
        column = batch.column(timestamp_column)
        per_second = units_per_second(column.type)
        times = stamps(column)
        wanted = np.ones(len(times), dtype=bool)
        if self.start is not None:
            wanted &= times >= _units(self.start, per_second)
        if self.end is not None:
            wanted &= times < _units(self.end, per_second)
        return take_batch(batch, np.flatnonzero(wanted))


def _units(moment: datetime, per_second: int) -> int:
    """Return an instant in units since the epoch, rounded up."""
    microseconds = (moment - EPOCH) // timedelta(microseconds=1)
    return -(-microseconds * per_second // 1_000_000)


def _shaped(batch: pa.RecordBatch, schema: pa.Schema, key: dict[str, str]) -> pa.RecordBatch:
    """Bring a file's rows into the shape of the read, still plain: types widened, newer columns null, the key added."""
    rows = batch.num_rows
    arrays = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        if index >= 0:
            arrays.append(reshape(batch.column(index), field.type))
        elif field.name in key:
            arrays.append(pa.repeat(pa.scalar(key[field.name], pa.string()), rows))
        else:
            arrays.append(pa.nulls(rows, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _everything(dataset: Dataset) -> tuple[ReadDescriptor, ReadPlan]:
    ticket = Ticket(
        dataset=dataset.spec.name,
        incarnation=dataset.spec.incarnation,
        version=dataset.version,
        selection=Selection(),
    )
    part = ReadPart(ticket=ticket, rows=dataset.totals.rows, bytes=dataset.totals.bytes)
    descriptor = ReadDescriptor(dataset=dataset.spec.name, as_of=AsOf(version=dataset.version))
    return descriptor, ReadPlan(schema=dataset.schema, parts=[part])


def _part(ticket: Ticket, run: PartitionRun) -> ReadPart:
    return ReadPart(ticket=replace(ticket, first=run.first, last=run.last), rows=run.rows, bytes=run.bytes)
