"""SQL over datasets at a version: each query in a process of its own, with bounded time, memory and number."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from access.grants import Permission
from access.principal import Principal
from catalog.manifests import Manifests
from readers.query_places import IDLE_TIMEOUT_S, Place, QueryPlaces
from readers.query_process import MissingTableError, QueryProcess
from readers.sql_tables import SqlQuery, SqlTable, pin, shape_of, tables_of, too_expensive
from readers.sql_types import ArrowTypes
from storage.local_files import LocalFiles
from timestore.errors import TimestoreError
from timestore.flight_sql.statements import PinnedDataset

MAX_QUERY_BYTES = 256 << 10
MAX_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlPlan:
    """What a query would give, and the versions of the datasets that it reads."""

    schema: pa.Schema
    parameters: pa.Schema
    pinned: Mapping[str, PinnedDataset]
    shapes: Mapping[str, str]  # by dataset: another one means that the schema may be another one


class SqlQueries:
    """Runs queries, a few at once. Thread safe."""

    def __init__(
        self,
        *,
        manifests: Manifests,
        files: LocalFiles,
        running: int,
        memory_limit_bytes: int,
        threads: int,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self._manifests = manifests
        self._files = files
        self._places = QueryPlaces(places=running, idle_timeout_s=idle_timeout_s)
        self._memory_limit_bytes = memory_limit_bytes
        self._threads = threads

    def run(self, query: SqlQuery, principal: Principal) -> Iterator[bytes]:
        """Yield the rows, each time as an Arrow IPC stream of its own; the first has the schema alone.

        A dataset that the principal may not read is as if it were not there. Raises ``query_invalid``,
        ``query_too_expensive``, ``overloaded``, ``storage_unavailable``, ``disk_full``, ``permission_denied`` for a
        query of what is not there while some of its names may not be read, and what resolving a dataset and its
        version raises.
        """
        with self._running_query(query, principal) as (process, _, place):
            process.expect(b"O")
            yield from place.watched(process.results())

    def rows(self, query: SqlQuery, principal: Principal) -> Iterator[pa.RecordBatch]:
        """Yield the rows, columns of datasets in the types that they were sent in; the first batch has no rows.

        Raises like ``run``.
        """
        with self._running_query(query, principal) as (process, tables, place):
            types = _arrow_types(process, tables)
            yield from place.watched(_restored(process, types))

    def plan(self, query: SqlQuery, principal: Principal) -> SqlPlan:
        """Say what a query would give, and fix the versions that it reads; no file is opened. Raises like ``run``."""
        with self._places.take() as place, self._started(query, place, principal, describe=True) as (process, names):
            tables = tables_of(self._manifests, names, query, principal, with_files=False)
            self._tell_columns(process, tables)
            process.tell({"views": [statement for table in tables for statement in table.view([])]})
            parameters = pa.ipc.read_schema(pa.py_buffer(process.expect(b"P")))
            types = _arrow_types(process, tables)
            [frame] = process.results()
        return SqlPlan(
            schema=types.schema(pa.ipc.open_stream(frame).schema),
            parameters=parameters,
            pinned={table.name: table.pinned for table in tables},
            shapes={table.name: shape_of(table.dataset) for table in tables},
        )

    def pin(self, shapes: Mapping[str, str], principal: Principal) -> Mapping[str, PinnedDataset] | None:
        """Fix the newest versions of datasets without planning; None if one has not the shape that a plan saw."""
        return pin(self._manifests, shapes, principal)

    @contextmanager
    def _running_query(
        self, query: SqlQuery, principal: Principal
    ) -> Iterator[tuple[QueryProcess, list[SqlTable], Place]]:
        """Start a query, with a view of each dataset that it names. Files stay in use until its process is gone."""
        with self._places.take() as place, self._started(query, place, principal, describe=False) as (process, names):
            tables = tables_of(self._manifests, names, query, principal)
            self._tell_columns(process, tables)
            tables = self._needed(process, tables)
            process.tell({"views": self._views(process, tables, place)})
            yield process, tables, place

    @contextmanager
    def _started(
        self, query: SqlQuery, place: Place, principal: Principal, *, describe: bool
    ) -> Iterator[tuple[QueryProcess, list[str]]]:
        """Start a process; it says which tables the query names."""
        if len(query.text.encode("utf-8", "surrogatepass")) > MAX_QUERY_BYTES:
            raise too_expensive(f"the query's text is longer than {MAX_QUERY_BYTES} bytes")
        with QueryProcess(timeout_s=query.timeout_s, place=place) as process:
            process.tell(
                {
                    "query": query.text,
                    "parameters": base64.b64encode(query.parameters).decode() if query.parameters is not None else None,
                    "describe": describe,
                    "max_rows": query.max_rows,
                    "memory_limit_bytes": self._memory_limit_bytes,
                    "threads": self._threads,
                }
            )
            names: list[str] = json.loads(process.expect(b"N"))
            try:
                yield process, names
            except MissingTableError as missing:
                raise _missing(missing.failure, names, principal) from None

    def _tell_columns(self, process: QueryProcess, tables: list[SqlTable]) -> None:
        process.tell({"columns": {table.name.lower(): table.columns for table in tables}})

    def _needed(self, process: QueryProcess, tables: list[SqlTable]) -> list[SqlTable]:
        """Return the tables with the files that the query needs; with all of them where none has to be fetched."""
        files = [file for table in tables for file in table.files]
        if not self._files.to_fetch(files):
            return tables
        paths = [str(self._files.place(file)) for file in files]
        process.tell({"paths": paths, "stand_ins": [statement for table in tables for statement in table.stand_ins()]})
        named = json.loads(process.expect(b"T"))
        tables = [table.narrowed(named) for table in tables]
        fetched, limit = self._files.to_fetch(file for table in tables for file in table.files), self._files.limit_bytes
        if len(fetched) > 1 and (needed := sum(file.bytes for file in fetched)) > limit:
            raise too_expensive(
                f"the query needs {len(fetched)} files of {needed} bytes from the storage, the server's read cache has "
                f"{limit}: compare the timestamp column or parts of the key with constants, or raise read_cache"
            )
        return tables

    def _views(self, process: QueryProcess, tables: list[SqlTable], place: Place) -> list[str]:
        """Have the files on this machine, and return the statements that make a view of each table."""
        files = [file for table in tables for file in table.files]
        try:
            local = place.hold(self._files.use(files, deadline=process.deadline))
        except TimestoreError:
            process.check_time()
            raise
        paths = iter([file.path for file in local])
        return [statement for table in tables for statement in table.view(islice(paths, len(table.slices)))]


def _arrow_types(process: QueryProcess, tables: Iterable[SqlTable]) -> ArrowTypes:
    origins = json.loads(process.expect(b"O"))
    schemas = {table.name.lower(): table.schema for table in tables}
    return ArrowTypes(
        [
            schemas[origin[0]].field(origin[1]) if origin and _has(schemas[origin[0]], origin[1]) else None
            for origin in origins
        ]
    )


def _restored(process: QueryProcess, types: ArrowTypes) -> Iterator[pa.RecordBatch]:
    for frame in process.results():
        for batch in _batches(pa.ipc.open_stream(frame)):
            yield from types.restored(batch)


def _has(schema: pa.Schema, column: str) -> bool:
    return bool(schema.get_field_index(column) >= 0)  # else it is a part of the key: a text


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a stream, and an empty one for a stream without any."""
    batches = list(reader)
    yield from batches or [pa.RecordBatch.from_pylist([], schema=reader.schema)]


def _missing(failure: TimestoreError, names: list[str], principal: Principal) -> TimestoreError:
    """Say what a caller hears of names that are not there, or that it may not know of: both alike.

    Names may be of the query's own making (WITH), so that only now it is known that one of them was not.
    """
    hidden = [name for name in names if not principal.may(name, Permission.READ)]
    return principal.denied(", ".join(hidden)[:200], Permission.READ) if hidden else failure
