"""Reading data files back: a fixed number of DuckDB instances, each of one thread and bounded memory."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from readers.descriptors import check_descriptors
from readers.duckdb_memory import needed_bytes
from readers.forms import storage_form
from readers.forms.form import quoted
from readers.nan_bits import ColumnNans, NanRestorer, group_by_column
from readers.plain import plain_schema
from readers.provenance import PROVENANCE_COLUMNS, Provenance
from timestore.errors import error

FILE_FORMAT_VERSION = 2  # 1: nan_bits says rows, and there were no nested types
BATCH_ROWS = 65_536
BATCH_BYTES = 8 << 20  # about; wide rows come in fewer to a batch
ACQUIRE_TIMEOUT_S = 10.0
RETRY_AFTER_S = 1.0
IDLE_TIMEOUT_S = 30.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a data file says about its rows."""

    schema: pa.Schema  # the one its rows were sent with
    nans: dict[str, ColumnNans]  # by column
    rows: int
    arrow_bytes: int  # what all of them take in memory

    @property
    def batch_rows(self) -> int:
        """Return how many rows make a batch of a sensible size."""
        return max(1, min(BATCH_ROWS, BATCH_BYTES * self.rows // max(self.arrow_bytes, 1)))


class FileReader:
    """One DuckDB instance that reads data files, one after the other. For one thread at a time."""

    def __init__(self, *, memory_limit_bytes: int) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._connection: duckdb.DuckDBPyConnection | None = None

    def facts(self, path: Path) -> FileFacts:
        """Return what a file says about its own rows; raises ``unsupported`` for a file of a newer version."""
        row = self._recorded(path, "format_version, arrow_schema, nan_bits, row_count, arrow_bytes")
        return FileFacts(
            schema=pa.ipc.read_schema(pa.py_buffer(row.column("arrow_schema")[0].as_py())),
            nans=group_by_column(row.column("nan_bits").combine_chunks().flatten()),
            rows=row.column("row_count")[0].as_py(),
            arrow_bytes=row.column("arrow_bytes")[0].as_py(),
        )

    def provenance(self, path: Path) -> Provenance:
        """Return what a file says about where its rows came from; raises ``unsupported`` like ``facts``."""
        row = self._recorded(path, "format_version, " + ", ".join(PROVENANCE_COLUMNS))
        return Provenance.from_row(row.to_pylist()[0])

    def batches(self, path: Path, facts: FileFacts, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of a file in their stored order, plain: ``encoded_batches`` brings them into their forms.

        Memory is bounded by the instance's limit and what the file's rows and columns need beyond it.
        """
        schema = plain_schema(pa.schema([facts.schema.field(name) for name in columns]))
        restored = [_Column(field, facts.nans.get(field.name)) for field in schema]
        select_list = ", ".join(quoted(name) for name in columns)
        with self._attached(path) as connection:
            needed = needed_bytes(fields=schema, arrow_bytes=facts.arrow_bytes)
            connection.execute(f"SET memory_limit = '{self._memory_limit_bytes + needed}B'")
            reader = connection.sql(f"SELECT {select_list} FROM file.data").to_arrow_reader(facts.batch_rows)
            for batch in reader:
                arrays = [column.restore(array) for column, array in zip(restored, batch.columns, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _recorded(self, path: Path, columns: str) -> pa.Table:
        """Read columns of the file's one row about itself, ``format_version`` among them."""
        with self._attached(path) as connection:
            row = connection.sql(f"SELECT {columns} FROM file.timestore_file").to_arrow_table()
        if (version := row.column("format_version")[0].as_py()) > FILE_FORMAT_VERSION:
            raise error(
                "unsupported",
                f"the data file {path.name} has format {version}, this server knows formats up to "
                f"{FILE_FORMAT_VERSION}; upgrade it",
                details={"format": version, "known": FILE_FORMAT_VERSION},
            )
        return row

    @contextmanager
    def _attached(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """Attach a file for the time of a read. When anything goes wrong the instance is thrown away."""
        check_descriptors()
        try:
            connection = self._open()
            location = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{location}' AS file (READ_ONLY)")
            yield connection
            connection.execute("DETACH file")
        except duckdb.Error as exc:
            self.close()
            raise error(
                "storage_unavailable", f"the data file {path.name} cannot be read: {type(exc).__name__}"
            ) from exc
        except BaseException:
            self.close()
            raise

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = duckdb.connect(
                ":memory:",
                config={
                    "threads": 1,
                    "memory_limit": f"{self._memory_limit_bytes}B",
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
            self._connection.execute("SET TimeZone = 'UTC'")
        return self._connection


class LentReader:
    """A reader lent to one stream, which loses it if it takes nothing for long and another stream needs it."""

    def __init__(self, reader: FileReader) -> None:
        self.reader = reader
        self.is_revoked = False
        self._lock = threading.Lock()  # held while a batch is being read
        self._batches: Generator[pa.RecordBatch, None, None] | None = None
        self._idle_since = time.monotonic()

    def stream(self, batches: Generator[pa.RecordBatch, None, None]) -> Iterator[pa.RecordBatch]:
        """Yield what a generator over this reader yields; raises ``deadline_exceeded`` once the reader is revoked."""
        self._batches = batches
        try:
            while (batch := self._next(batches)) is not None:
                yield batch
        finally:
            with self._lock:
                batches.close()  # before the reader and its file are somebody else's

    def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        with self._lock:
            if self.is_revoked:
                raise error(
                    "deadline_exceeded",
                    "the client took nothing from this stream for too long, and other reads needed its place; use "
                    "the ticket again",
                )
            batch = next(batches, None)
            self._idle_since = time.monotonic()
            return batch

    def revoke(self, *, idle_s: float) -> bool:
        """Take the reader away if its stream has taken nothing for so long; return whether it was taken."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self.is_revoked or self._batches is None or time.monotonic() - self._idle_since < idle_s:
                return False
            self.is_revoked = True
            self._batches.close()  # frees what the query holds; the generator rests, for the lock is ours
            return True
        finally:
            self._lock.release()


class ReaderPool:
    """Lends readers; how many there are bounds the memory that all reads together take. Thread safe.

    gRPC blocks the thread of a stream whose client takes nothing, for ever if need be: it must not keep a reader that
    others wait for. So those who wait revoke what has been idle for ``idle_timeout_s``.
    """

    def __init__(self, *, readers: int, memory_limit_bytes: int, idle_timeout_s: float = IDLE_TIMEOUT_S) -> None:
        self._size = readers
        self._idle_timeout_s = idle_timeout_s
        self._idle: queue.LifoQueue[FileReader] = queue.LifoQueue()
        self._lock = threading.Lock()
        self._lent: set[LentReader] = set()
        for _ in range(readers):
            self._idle.put(FileReader(memory_limit_bytes=memory_limit_bytes))

    @contextmanager
    def reader(self) -> Iterator[LentReader]:
        """Lend a reader; raises ``overloaded`` if none becomes free in time."""
        lent = LentReader(self._acquire())
        with self._lock:
            self._lent.add(lent)
        try:
            yield lent
        finally:
            with self._lock:
                is_ours = lent in self._lent
                self._lent.discard(lent)
            if is_ours:
                self._idle.put(lent.reader)

    def _acquire(self) -> FileReader:
        deadline = time.monotonic() + ACQUIRE_TIMEOUT_S
        while True:
            try:
                return self._idle.get(timeout=POLL_S)
            except queue.Empty:
                self.revoke_stalled()
            if time.monotonic() >= deadline:
                raise error(
                    "overloaded",
                    f"{self._size} reads are running, and no more may; try again shortly",
                    details={"limit": self._size},
                    retry_after_s=RETRY_AFTER_S,
                )

    def revoke_stalled(self) -> None:
        """Free a reader whose stream is stalled, and its file, if there is one."""
        with self._lock:
            for lent in self._lent:
                if lent.revoke(idle_s=self._idle_timeout_s):
                    self._lent.discard(lent)
                    self._idle.put(lent.reader)
                    return

    def close(self) -> None:
        """Close every reader that is not lent."""
        while not self._idle.empty():
            self._idle.get_nowait().close()


class _Column:
    """Brings one column back from what DuckDB gives, batch by batch."""

    def __init__(self, field: pa.Field, nans: ColumnNans | None) -> None:
        form = storage_form(field.type)
        assert form is not None  # the file was written through it
        self._form = form
        self._nans = NanRestorer(nans) if nans is not None else None

    def restore(self, array: pa.Array) -> pa.Array:
        """Return the plain values of the next rows."""
        plain = self._form.from_storage(array)
        return plain if self._nans is None else self._nans.restore(plain)
