"""Writing one data file: rows of one partition in, a closed, fsynced, hashed DuckDB file out.

Each writer thread has one ``DuckDBWriter``: a DuckDB instance of one thread that lives as long as the thread, and to
which files are attached for the time of writing. Opening a database per file would cost four times as much.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from readers.descriptors import check_descriptors
from readers.duckdb_memory import needed_bytes
from readers.file_reader import FILE_FORMAT_VERSION
from readers.forms import StorageForm, storage_form
from readers.forms.form import quoted
from readers.nan_bits import find_unusual_nans
from readers.plain import plain_schema, take_batch
from readers.plain.sizes import plain_bytes
from readers.stamps import stamps, units_per_second
from storage.checksums import checksum_of
from timestore.datasets import Order
from timestore.digest import PayloadDigest
from timestore.digest.selection import numbers
from timestore.errors import TimestoreError, error
from timestore.json_object import canonical_json
from timestore.names import PartitionKey
from timestore.windows import TimeWindow
from writers.resident_memory import resident_bytes

SMALL_FILE_ROWS = 4_000  # up to here small blocks make much smaller files and cost nothing
SMALL_BLOCK_BYTES = 16_384
BLOCK_BYTES = 262_144

_SETTINGS = (
    "SET wal_autocheckpoint = '1KB'",  # a small file would otherwise be written twice, to the WAL first
    "SET fsync_mode = 'NONE'",  # the file is fsynced once, when it is finished
    "SET write_buffer_row_group_count = 1",
    "SET TimeZone = 'UTC'",
)
_APPEND_TYPE = pa.struct(
    [
        ("append_id", pa.string()),
        ("idempotency_key", pa.string()),
        ("fingerprint", pa.string()),
        ("total_rows", pa.int64()),
        ("rows", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendFacts:
    """What a file says about the append it belongs to.

    ``fingerprint`` and ``total_rows`` are known when the stream has ended, and None in files finished before. At least
    one file of every append has them.
    """

    append_id: UUID
    idempotency_key: str
    fingerprint: str | None = None
    total_rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """One data file to be written."""

    file_id: UUID
    dataset: str
    key: PartitionKey
    window: TimeWindow
    timestamp_column: str
    order: Order
    schema: pa.Schema  # of the rows as they were sent; what is written are the plain rows
    append: AppendFacts
    written_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedFile:
    """A closed, fsynced local file."""

    path: Path
    bytes: int
    checksum: str  # xxh3:<hex> of its bytes
    rows: int
    min_ts_ns: int
    max_ts_ns: int
    digest: str  # payload digest of its rows in their stored order


class DuckDBWriter:
    """One DuckDB instance that writes files, one after the other. For one thread."""

    def __init__(
        self, *, memory_limit_bytes: int, keep_bytes: int, temporary_directory: Path, storage_version: str
    ) -> None:
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "threads": 1,
            "temp_directory": str(temporary_directory),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._memory_limit_bytes = memory_limit_bytes
        self._keep_bytes = keep_bytes  # while the process has less, free memory is kept for the next file
        self._storage_version = storage_version
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._extra_bytes = 0  # what the instance may take now beyond its limit

    def write(self, request: FileRequest, batches: Sequence[pa.RecordBatch], path: Path) -> FinishedFile:
        """Write plain rows as one file at ``path`` and return what is in it.

        Raises ``disk_full``, ``overloaded``, ``storage_unavailable`` (also when something is at ``path`` already) or
        ``value_not_storable``; what was written is removed then.
        """
        check_descriptors()
        table = _ordered(pa.Table.from_batches(batches, plain_schema(request.schema)), request)
        described = _describe(table, request)
        if path.exists():
            raise error("storage_unavailable", f"the staging file {path.name} is there already; send this again")
        try:
            self._write_tables(table, _facts(request, described), path, described.arrow_bytes)
            size, checksum = _fsync_and_hash(path)
        except BaseException as exc:
            self.close()  # whatever is attached goes with the instance
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
            if isinstance(exc, duckdb.Error | pa.ArrowInvalid | OSError):
                raise _translate(exc) from exc
            raise
        return FinishedFile(
            path=path,
            bytes=size,
            checksum=checksum,
            rows=described.rows,
            min_ts_ns=described.min_ts_ns,
            max_ts_ns=described.max_ts_ns,
            digest=described.digest,
        )

    def probe(self, path: Path) -> None:
        """Write a file of one value and remove it: settings are tried, and what is imported late is imported.

        Raises ``unsupported`` if files cannot be written so.
        """
        path.unlink(missing_ok=True)
        one = pa.table({"one": pa.array([1], pa.int64())})
        try:
            self._write_tables(one, one, path, one.nbytes)
        except duckdb.Error as exc:
            raise error("unsupported", f"DuckDB cannot write data files: {str(exc).splitlines()[0]}") from exc
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write_tables(self, table: pa.Table, facts: pa.Table, path: Path, arrow_bytes: int) -> None:
        connection = self._open()
        self._allow(connection, needed_bytes(fields=table.schema, arrow_bytes=arrow_bytes))
        block = SMALL_BLOCK_BYTES if table.num_rows <= SMALL_FILE_ROWS else BLOCK_BYTES
        location = str(path).replace("'", "''")
        connection.execute(
            f"ATTACH '{location}' AS file (STORAGE_VERSION '{self._storage_version}', BLOCK_SIZE {block})"
        )
        connection.execute("BEGIN")
        self._create(connection, "data", table, _select_list(table.schema))
        self._create(connection, "timestore_file", facts, "*")
        connection.execute("COMMIT")
        connection.execute("DETACH file")

    def _create(self, connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table, select_list: str) -> None:
        # DuckDB finds this variable by its name. To register it, as a view, would cost as much as to store 1000 rows.
        incoming = _stored(rows) if name == "data" else rows  # noqa: F841
        connection.execute(f"CREATE TABLE file.{name} AS SELECT {select_list} FROM incoming")

    def _allow(self, connection: duckdb.DuckDBPyConnection, needed: int) -> None:
        """Let the instance take what a file needs beyond its limit.

        With each such setting DuckDB returns all free memory of the whole process to the kernel, and everybody has to
        get it back from there, page by page: much dearer than a small file. So it is set in large steps, and again only
        where memory is short.
        """
        step = self._memory_limit_bytes
        extra = -(-needed // step) * step
        if extra > self._extra_bytes or resident_bytes() > self._keep_bytes:
            connection.execute(f"SET memory_limit = '{self._memory_limit_bytes + extra}B'")
            self._extra_bytes = extra

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._extra_bytes = 0
            self._connection = duckdb.connect(":memory:", config=self._config)
            for setting in _SETTINGS:
                self._connection.execute(setting)
        return self._connection


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    rows: int
    min_ts_ns: int
    max_ts_ns: int
    digest: str
    nans: pa.Array
    arrow_bytes: int  # what the rows take in memory: reads size their batches by it


def _ordered(table: pa.Table, request: FileRequest) -> pa.Table:
    """Sort the rows by timestamp, equal ones in their order, if the dataset asks for it."""
    if request.order is not Order.SORT:
        return table
    order = pc.sort_indices(table, sort_keys=[(request.timestamp_column, "ascending")])
    batch = pa.concat_batches(table.to_batches())
    return pa.Table.from_batches([take_batch(batch, numbers(order, "<u8"))])


def _describe(table: pa.Table, request: FileRequest) -> _Described:
    digest = PayloadDigest(table.schema)
    for batch in table.to_batches():
        digest.update(batch)
    column = table.column(request.timestamp_column)
    extents = [(int(times.min()), int(times.max())) for times in map(stamps, column.chunks) if len(times)]
    scale = 1_000_000_000 // units_per_second(column.type)
    return _Described(
        rows=table.num_rows,
        min_ts_ns=min(first for first, _ in extents) * scale,
        max_ts_ns=max(last for _, last in extents) * scale,
        digest=digest.finish(),
        nans=find_unusual_nans(table),
        arrow_bytes=plain_bytes(table),
    )


def _stored(table: pa.Table) -> pa.Table:
    """Bring every column into the form that the file holds."""
    columns = [_stored_column(_form(field), column) for field, column in zip(table.schema, table.columns, strict=True)]
    return pa.Table.from_arrays(columns, names=table.schema.names)


def _stored_column(form: StorageForm, column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([form.to_storage(chunk) for chunk in column.chunks], type=form.stored_type)


def _select_list(schema: pa.Schema) -> str:
    named = [(quoted(field.name), _form(field).sql_type) for field in schema]
    return ", ".join(f"{name}::{sql_type} AS {name}" for name, sql_type in named)


def _facts(request: FileRequest, described: _Described) -> pa.Table:
    """Build the one row of ``timestore_file``: enough to rebuild a catalog from files alone."""
    instant = pa.timestamp("us", "UTC")
    append = {
        "append_id": str(request.append.append_id),
        "idempotency_key": request.append.idempotency_key,
        "fingerprint": request.append.fingerprint,
        "total_rows": request.append.total_rows,
        "rows": described.rows,
    }
    columns = {
        "format_version": pa.array([FILE_FORMAT_VERSION], pa.int32()),
        "file_id": pa.array([str(request.file_id)]),
        "dataset": pa.array([request.dataset]),
        "key": pa.array([canonical_json(request.key.as_dict())]),
        "window_start": pa.array([request.window.start], instant),
        "window_end": pa.array([request.window.end], instant),
        "timestamp_column": pa.array([request.timestamp_column]),
        "arrow_schema": pa.array([request.schema.serialize().to_pybytes()], pa.binary()),
        "row_count": pa.array([described.rows], pa.int64()),
        "arrow_bytes": pa.array([described.arrow_bytes], pa.int64()),
        "digest": pa.array([described.digest]),
        "appends": pa.array([[append]], pa.list_(_APPEND_TYPE)),
        "nan_bits": pa.ListArray.from_arrays([0, len(described.nans)], described.nans),
        "replaces": pa.array([[]], pa.list_(pa.string())),
        "written_at": pa.array([request.written_at], instant),
    }
    return pa.table(columns)


def _form(field: pa.Field) -> StorageForm:
    form = storage_form(field.type)
    assert form is not None  # the schema was checked before any row came
    return form


def _fsync_and_hash(path: Path) -> tuple[int, str]:
    """Make the file's bytes durable; return its size and checksum."""
    if path.with_name(f"{path.name}.wal").exists():
        raise OSError(f"DuckDB left a WAL beside {path.name}")
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size, checksum_of(file)


def _translate(exc: Exception) -> TimestoreError:
    if isinstance(exc, duckdb.ConversionException | duckdb.OutOfRangeException | pa.ArrowInvalid):
        return error("value_not_storable", f"a value does not fit its column: {str(exc).splitlines()[0]}")
    if (isinstance(exc, OSError) and exc.errno == 28) or "No space left" in str(exc):
        return error("disk_full", "the staging disk is full; free space there, then send this again")
    if "File too large" in str(exc):
        return error("disk_full", "the server may not write a file as large as this needs; raise its limit (ulimit -f)")
    if isinstance(exc, duckdb.OutOfMemoryException):
        return error("storage_unavailable", "a writer's share of the memory budget is too small; raise --memory-budget")
    return error("storage_unavailable", f"a data file could not be written ({type(exc).__name__}); send this again")
