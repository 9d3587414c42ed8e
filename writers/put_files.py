"""The data files of one put: from the rows that leave its buffer until they are in storage, to be committed."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import structlog

from catalog.records import Intent, NewSlice
from storage.local_files import is_on_this_machine
from storage.paths import data_file_path
from storage.targets import about_target
from timestore.datasets import DatasetSpec, Order
from timestore.errors import InternalError, TimestoreError, error
from timestore.identifiers import uuid7
from timestore.names import PartitionKey
from writers.chunks import Chunk
from writers.data_file import AppendFacts, DuckDBWriter, FileRequest, FinishedFile
from writers.planning import check_room
from writers.put import Cancelled, cancelled
from writers.put_outcomes import Stage, StageTimes
from writers.put_uploads import PutUploads, WrittenFile
from writers.spill import SpillFile
from writers.workshop import Workshop

SMALL_BATCH_ROWS = 8_192

log = structlog.get_logger()


class PutFiles:
    """Owns the put's buffer. Driven by the put's thread; writers, uploads and who makes room report from others.

    What fails on another thread is kept for the put: ``raise_failure`` tells it.
    """

    def __init__(
        self,
        *,
        spec: DatasetSpec,
        key: PartitionKey,
        schema: pa.Schema,
        facts: AppendFacts,
        visible_bytes: int,
        shared: Workshop,
        times: StageTimes,
    ) -> None:
        self._spec = spec
        self._key = key
        self._schema = schema
        self.facts = facts  # what files say of the append that are begun from now on
        self._visible_bytes = visible_bytes
        self._shared = shared
        self._times = times
        self._store = shared.targets.of(spec.storage)
        self.buffer = shared.budget.open_buffer(
            chunk_bytes=shared.limits.chunk_bytes, is_ordered=spec.order is Order.ORDERED, owner=self
        )
        self._spill_file = SpillFile(path=shared.staging / f"{facts.append_id}.arrow", room=shared.room)
        # To a store on this machine writers promote files themselves: that takes no time.
        self._uploads = None if is_on_this_machine(self._store) else self._own_uploads()
        # Shared with the threads that write and upload, guarded by the lock.
        self._lock = threading.Lock()
        self._failure: TimestoreError | None = None
        self._slices: dict[int, NewSlice] = {}
        self._written_bytes = 0
        self._unpublished: dict[UUID, str] = {}  # intents recorded and not yet committed: holder to path

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def finish(self, is_cancelled: Cancelled) -> None:
        """Write what is left in the buffer, and wait until every file is in storage; raises what failed."""
        self.dispatch(self.buffer.take_rest())
        self.buffer.wait_until_written()
        if self._uploads is not None:
            self._uploads.wait(is_cancelled)
        self.raise_failure()

    def slices(self) -> tuple[NewSlice, ...]:
        """Return what is in storage, in the order of the put."""
        return tuple(self._slices[sequence] for sequence in sorted(self._slices))

    def let_go(self) -> None:
        """Have ``remove`` leave every file where it is: they are committed, or may be."""
        self._unpublished.clear()

    def stop(self) -> None:
        """Have no more written, and give the memory back when the writers have ended."""
        self._fail(cancelled())  # whatever is still queued is not worth writing
        self.buffer.wait_until_written()
        self._shared.budget.close_buffer(self.buffer)

    def remove(self) -> None:
        """Remove what lies in staging, and what was not let go."""
        self._spill_file.close()
        self._remove_unpublished()

    def spill(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, mmap.mmap] | None:
        """Move a batch to the spill file; a failure is kept for the put."""
        try:
            return self._spill_file.write(batch)
        except (OSError, ValueError, pa.ArrowException) as exc:
            log.warning("spill.failed", error=str(exc))  # names the file: the operator's business, not the client's
            reason = getattr(exc, "strerror", None) or type(exc).__name__
            self._fail(error("disk_full", f"the staging disk does not take more rows ({reason}); free space there"))
            return None

    def dispatch(self, chunks: Sequence[Chunk]) -> None:
        """Give chunks to the writers, their intents recorded first; a failure is kept for the put."""
        submitted = 0
        try:
            for job in self._prepare(chunks):
                self._shared.pool.submit(job)
                submitted += 1
        except Exception as exc:  # noqa: BLE001  # whatever happened: the chunks must come back, the put must hear of it
            self._fail(exc if isinstance(exc, TimestoreError) else _unforeseen(exc))
            for chunk in chunks[submitted:]:
                self._shared.budget.release(self.buffer, chunk)

    def _prepare(self, chunks: Sequence[Chunk]) -> list[Callable[[DuckDBWriter], None]]:
        """Record the intents of some chunks and return the jobs that write them."""
        self.raise_failure()
        planned = [(chunk, self._planned_file(chunk)) for chunk in chunks]
        intents = [
            Intent(holder_id=request.file_id, storage=self._spec.storage, path=path) for _, (request, path) in planned
        ]
        with self._lock:
            self._unpublished.update({intent.holder_id: intent.path for intent in intents})
        if intents:
            self._shared.ledger.record_intents(intents)
        return [partial(self._write, chunk, request, path) for chunk, (request, path) in planned]

    def _planned_file(self, chunk: Chunk) -> tuple[FileRequest, str]:
        file_id = uuid7()
        request = FileRequest(
            file_id=file_id,
            dataset=self._spec.name,
            key=self._key,
            window=chunk.window,
            timestamp_column=self._spec.timestamp_column,
            order=self._spec.order,
            schema=self._schema,
            append=self.facts,
            written_at=datetime.now(UTC),
        )
        return request, data_file_path(dataset=self._spec.name, key=self._key, window=chunk.window, file_id=file_id)

    def _write(self, chunk: Chunk, request: FileRequest, path: str, writer: DuckDBWriter) -> None:
        """Write one file on a writer thread, and promote it or have it uploaded."""
        try:
            if self._failure is None:
                write = partial(self._write_file, chunk, request, path, writer)
                if self._uploads is not None:
                    self._uploads.write(write, rows_bytes=chunk.bytes)
                else:
                    written = write()
                    with about_target(self._spec.storage), self._times.spent_in(Stage.UPLOAD):
                        self._store.put(written.source, path)
                    self._landed(written)
        except TimestoreError as exc:
            self._fail(exc)
        except Exception as exc:  # noqa: BLE001  # the top of a thread: whatever happened, the put must hear of it
            self._fail(_unforeseen(exc))
        finally:
            self._shared.budget.release(self.buffer, chunk)

    def _write_file(self, chunk: Chunk, request: FileRequest, path: str, writer: DuckDBWriter) -> WrittenFile:
        with self._times.spent_in(Stage.WRITE):
            finished = writer.write(request, _batches(chunk), self._staged(request.file_id))
        return WrittenFile(
            sequence=chunk.sequence, source=finished.path, slice=_new_slice(request, finished, self._spec.storage, path)
        )

    def _landed(self, written: WrittenFile) -> None:
        """Take a file into account that is in storage; raises ``dataset_full``."""
        with self._lock:
            self._slices[written.sequence] = written.slice
            self._written_bytes += written.slice.bytes
            total = self._written_bytes
        check_room(self._spec, visible=self._visible_bytes, new=total)  # the commit checks again

    def _own_uploads(self) -> PutUploads:
        return PutUploads(
            uploads=self._shared.uploads,
            room=self._shared.room,
            storage=self._spec.storage,
            store=self._store,
            has_failed=lambda: self._failure is not None,
            landed=self._landed,
            fail=self._fail,
            took=partial(self._times.add, Stage.UPLOAD),
        )

    def _staged(self, file_id: UUID) -> Path:
        return self._shared.staging / f"{file_id}.duckdb"

    def _remove_unpublished(self) -> None:
        """Remove the files of a put that was not committed: give them up in the catalog, delete them, forget them.

        In this order no file can be both deleted and committed. What cannot be removed now keeps its intent. So does
        what a distant store was given: it can land later yet, and the sweeper looks again after a day.
        """
        may_land = self._uploads.cancel() if self._uploads is not None else set()
        if not self._unpublished:
            return
        try:
            for holder_id in self._unpublished:
                self._staged(holder_id).unlink(missing_ok=True)
            condemned = self._shared.ledger.condemn_intents(list(self._unpublished))
            forgotten = [holder_id for holder_id in condemned if holder_id not in may_land]
            if self._uploads is None:
                for holder_id in forgotten:
                    self._store.delete(self._unpublished[holder_id])
            self._shared.ledger.forget_intents(forgotten)
        except (TimestoreError, OSError) as exc:
            log.warning("put.files_left", files=len(self._unpublished), error=str(exc))

    def _fail(self, failure: TimestoreError) -> None:
        with self._lock:
            self._failure = self._failure or failure
        self.buffer.discard()


def _unforeseen(exc: Exception) -> TimestoreError:
    """Wrap a defect; what it says may name files of this machine, so only the log has it, by way of the cause."""
    failure = InternalError("internal", f"a data file could not be written: {type(exc).__name__}")
    failure.__cause__ = exc
    return failure


def _batches(chunk: Chunk) -> list[pa.RecordBatch]:
    """Return a chunk's rows; many small pieces as one batch, because every batch costs a little everywhere."""
    batches = [part.segment.batch.slice(part.start, part.rows) for part in chunk.parts]
    if chunk.rows < SMALL_BATCH_ROWS * len(batches):
        return [pa.concat_batches(batches)]
    return batches


def _new_slice(request: FileRequest, finished: FinishedFile, storage: str, path: str) -> NewSlice:
    return NewSlice(
        holder_id=request.file_id,
        storage=storage,
        path=path,
        bytes=finished.bytes,
        checksum=finished.checksum,
        key=request.key,
        window=request.window,
        rows=finished.rows,
        min_ts_ns=finished.min_ts_ns,
        max_ts_ns=finished.max_ts_ns,
        digest=finished.digest,
    )
