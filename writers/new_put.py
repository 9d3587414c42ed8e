"""A put that writes: see ``writers.put``."""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import structlog

from catalog.errors import OutcomeUnknownError, PlanStaleError
from catalog.ledger import Ledger
from catalog.records import CommitOutcome, CommitPlan, Intent, NewAppend, NewSlice, Outcome
from readers.stamps import units_per_second
from storage.paths import data_file_path
from storage.store import Store
from timestore.descriptor import PutDescriptor
from timestore.errors import InternalError, TimestoreError, error
from timestore.identifiers import uuid7
from timestore.receipt import MAX_RECEIPT_FILES, Receipt, ReceiptFile
from writers.buffers import Budget, Chunk
from writers.data_file import AppendFacts, DuckDBWriter, FileRequest, FinishedFile
from writers.held_back import HeldBack, held_bytes
from writers.planning import Planner, PutPlan, check_room
from writers.pool import WriterPool
from writers.put import Cancelled, PutStream, cancelled, first_receipt, replay
from writers.routing import Router
from writers.spill import SpillFile
from writers.storability import StorableRows
from writers.validation import BatchValidator

COMMIT_DEADLINE_S = 30.0
SMALL_BATCH_ROWS = 8_192
MAX_PLANS = 20  # a plan goes stale only when another put changed the dataset, which ends soon

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutLimits:
    """What one put may ask of the server."""

    max_batch_bytes: int
    max_windows_per_put: int
    chunk_bytes: int  # a data file is written when so much has been gathered for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all puts of a server share."""

    ledger: Ledger
    planner: Planner
    store: Store
    budget: Budget
    pool: WriterPool
    staging: Path
    limits: PutLimits


class NewPut(PutStream):
    """A put whose idempotency key is free so far. Driven by one thread; writers report to it from others."""

    def __init__(
        self,
        *,
        descriptor: PutDescriptor,
        idempotency_key: str,
        schema: pa.Schema,
        plan: PutPlan,
        principal: str | None,
        shared: Workshop,
    ) -> None:
        super().__init__(
            descriptor=descriptor, idempotency_key=idempotency_key, schema=schema, schema_version=plan.schema_version
        )
        assert plan.commit is not None  # only a known append has no plan
        self._spec = plan.spec
        self._commit_plan: CommitPlan = plan.commit
        self._visible_bytes = plan.visible_bytes
        self._principal = principal
        self._shared = shared
        self._validator = BatchValidator(schema=schema, spec=plan.spec, max_batch_bytes=shared.limits.max_batch_bytes)
        self._storable = StorableRows(schema)
        self._router = Router(
            window=plan.spec.window,
            units_per_second=units_per_second(schema.field(plan.spec.timestamp_column).type),
            max_windows=shared.limits.max_windows_per_put,
        )
        self._buffer = shared.budget.open_buffer(chunk_bytes=shared.limits.chunk_bytes, owner=self)
        self._facts = AppendFacts(append_id=uuid7(), idempotency_key=idempotency_key)
        self._spill_file = SpillFile(path=shared.staging / f"{self._facts.append_id}.arrow")
        self._held_back = HeldBack()
        self._largest_batch = 0
        self._reserved_next = 0
        # Shared with the writer threads, guarded by the lock.
        self._lock = threading.Lock()
        self._failure: TimestoreError | None = None
        self._slices: dict[int, NewSlice] = {}
        self._written_bytes = 0
        self._unpublished: dict[UUID, str] = {}  # intents recorded and not yet committed: holder to path

    def make_room(self) -> None:
        self._raise_failure()
        self._reserved_next = self._largest_batch
        self._shared.budget.reserve(self._buffer, self._reserved_next)

    def add(self, batch: pa.RecordBatch) -> None:
        self._raise_failure()
        stamps = self._validator.check(batch)
        sent_bytes = batch.nbytes
        batch = self._storable.plain(batch)  # decoded once, for the digest too
        self._count(batch, sent_bytes=sent_bytes)
        self._check_row_limit()
        size = held_bytes(batch) if batch.num_rows else 0
        self._shared.budget.adjust(self._buffer, size - self._reserved_next)
        self._reserved_next = 0
        if batch.num_rows:
            self._largest_batch = max(self._largest_batch, size)
            if self._held_back.is_enough:
                self._route_held_back()
            self._held_back.add(batch, stamps, size)

    def finish(self, *, marker_rows: int | None, is_cancelled: Cancelled) -> Receipt:
        self._check_end(marker_rows, is_cancelled)
        fingerprint = self._checked_fingerprint()
        received = time.monotonic()
        self._facts = replace(self._facts, fingerprint=fingerprint, total_rows=self.rows)
        self._route_held_back()
        self.dispatch(self._buffer.take_rest())
        self._buffer.wait_until_written()
        self._raise_failure()
        timings = {
            "receive": _milliseconds(received - self._started),
            "land": _milliseconds(time.monotonic() - received),
        }
        # The last look before the commit: a client that died looks like a clean end of its stream.
        if is_cancelled():
            raise cancelled()
        append = self._new_append(fingerprint, timings)
        outcome = self._publish(append)
        if outcome.outcome is Outcome.COMMITTED:
            self._unpublished.clear()
            return first_receipt(outcome.known)
        if outcome.visible_bytes is not None:
            check_room(self._spec, visible=outcome.visible_bytes, new=sum(new.bytes for new in append.slices))
        return replay(outcome.known, fingerprint, self.idempotency_key)

    def close(self) -> None:
        self._fail(cancelled())  # whatever is still queued is not worth writing
        self._buffer.wait_until_written()
        self._shared.budget.close_buffer(self._buffer)
        self._held_back = HeldBack()
        self._spill_file.close()
        self._remove_unpublished()

    def _check_row_limit(self) -> None:
        limit = self._spec.limits.max_rows_per_put
        if limit is not None and self.rows > limit:
            raise error(
                "too_many_rows",
                f"the put has at least {self.rows} rows, and one put of {self._spec.name!r} may have {limit}; split it",
                details={"dataset": self._spec.name, "limit": limit, "rows": self.rows},
            )

    def _route_held_back(self) -> None:
        """Route the batches before: the last one stays out of the buffers until the stream has ended.

        So at least one file of every append is written after the end, and has the append's fingerprint and row count.
        """
        if self._held_back.rows:
            batch, stamps, counted = self._held_back.take()
            size = held_bytes(batch)  # less than was counted, if small batches were joined
            self._shared.budget.adjust(self._buffer, size - counted)
            self._buffer.add(self._router.split(batch, stamps), size)

    def _checked_fingerprint(self) -> str:
        fingerprint = self._fingerprint()
        if self.descriptor.fingerprint not in (None, fingerprint):
            raise error(
                "descriptor_invalid",
                f"the stream's fingerprint is {fingerprint}, but the descriptor says {self.descriptor.fingerprint}",
                details={"fingerprint": fingerprint},
            )
        return fingerprint

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
                self._shared.budget.release(self._buffer, chunk)

    def _prepare(self, chunks: Sequence[Chunk]) -> list[Callable[[DuckDBWriter], None]]:
        """Record the intents of some chunks and return the jobs that write them."""
        self._raise_failure()
        planned = [(chunk, self._planned_file(chunk)) for chunk in chunks]
        intents = [Intent(holder_id=request.file_id, path=path) for _, (request, path) in planned]
        with self._lock:
            self._unpublished.update({intent.holder_id: intent.path for intent in intents})
        if intents:
            self._shared.ledger.record_intents(intents)
        return [partial(self._write, chunk, request, path) for chunk, (request, path) in planned]

    def _planned_file(self, chunk: Chunk) -> tuple[FileRequest, str]:
        file_id = uuid7()
        key = self.descriptor.key
        request = FileRequest(
            file_id=file_id,
            dataset=self._spec.name,
            key=key,
            window=chunk.window,
            timestamp_column=self._spec.timestamp_column,
            order=self._spec.order,
            schema=self.schema,
            append=self._facts,
            written_at=datetime.now(UTC),
        )
        return request, data_file_path(dataset=self._spec.name, key=key, window=chunk.window, file_id=file_id)

    def _write(self, chunk: Chunk, request: FileRequest, path: str, writer: DuckDBWriter) -> None:
        """Write and promote one file, on a writer thread."""
        try:
            if self._failure is None:
                finished = writer.write(request, _batches(chunk), self._staged(request.file_id))
                self._shared.store.put(finished.path, path)
                with self._lock:
                    self._slices[chunk.sequence] = _new_slice(request, finished, path)
                    self._written_bytes += finished.bytes
                    written = self._written_bytes
                check_room(self._spec, visible=self._visible_bytes, new=written)  # the commit checks again
        except TimestoreError as exc:
            self._fail(exc)
        except Exception as exc:  # noqa: BLE001  # the top of a thread: whatever happened, the put must hear of it
            self._fail(_unforeseen(exc))
        finally:
            self._shared.budget.release(self._buffer, chunk)

    def _staged(self, file_id: UUID) -> Path:
        return self._shared.staging / f"{file_id}.duckdb"

    def _publish(self, append: NewAppend) -> CommitOutcome:
        """Commit, planning again as often as other puts change the dataset."""
        deadline = time.monotonic() + COMMIT_DEADLINE_S
        for _ in range(MAX_PLANS):
            try:
                [outcome] = self._shared.ledger.commit(self._commit_plan, [append], deadline=deadline)
                return outcome
            except PlanStaleError:
                self._commit_plan = self._shared.planner.plan_again(self._commit_plan, self.schema, self.descriptor)
            except OutcomeUnknownError as exc:
                self._unpublished.clear()  # the commit may have happened: nothing may be deleted
                raise error(
                    "catalog_unavailable",
                    "the catalog did not say whether the append was committed; send it again with the same idempotency "
                    "key: it gives the receipt, or makes it",
                    details={"outcome": "unknown", "idempotency_key": self.idempotency_key},
                    retry_after_s=1.0,
                ) from exc
        raise error("fenced", f"the schema of {self._spec.name!r} keeps changing; send this again", retry_after_s=1.0)

    def _new_append(self, fingerprint: str, timings: dict[str, float]) -> NewAppend:
        slices = tuple(self._slices[sequence] for sequence in sorted(self._slices))
        if sum(new.rows for new in slices) != self.rows:
            raise InternalError("internal", f"{self.rows} rows came, but other files were written; send this again")
        receipt: dict[str, Any] = {
            "type": "receipt",
            "v": 1,
            "dataset": self._spec.name,
            "key": self.descriptor.key.as_dict(),
            "append_id": str(self._facts.append_id),
            "idempotency_key": self.idempotency_key,
            "fingerprint": fingerprint,
            "rows": self.rows,
            "bytes": self.bytes,
            "landing": "file",
            "files": [_receipt_file(new).as_json() for new in slices[:MAX_RECEIPT_FILES]],
            "files_total": len(slices),
            "timings_ms": timings,
            "replayed": False,
        }
        return NewAppend(
            append_id=self._facts.append_id,
            idempotency_key=self.idempotency_key,
            fingerprint=fingerprint,
            rows=self.rows,
            bytes=self.bytes,
            principal=self._principal,
            receipt=receipt,
            slices=slices,
        )

    def _remove_unpublished(self) -> None:
        """Remove the files of a put that was not committed: give them up in the catalog, delete them, forget them.

        In this order no file can be both deleted and committed. What cannot be removed now keeps its intent.
        """
        if not self._unpublished:
            return
        try:
            condemned = self._shared.ledger.condemn_intents(list(self._unpublished))
            for holder_id in condemned:
                self._staged(holder_id).unlink(missing_ok=True)
                self._shared.store.delete(self._unpublished[holder_id])
            self._shared.ledger.forget_intents(condemned)
        except (TimestoreError, OSError) as exc:
            log.warning("put.files_left", files=len(self._unpublished), error=str(exc))

    def _fail(self, failure: TimestoreError) -> None:
        with self._lock:
            self._failure = self._failure or failure
        self._buffer.discard()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


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


def _new_slice(request: FileRequest, finished: FinishedFile, path: str) -> NewSlice:
    return NewSlice(
        holder_id=request.file_id,
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


def _receipt_file(new: NewSlice) -> ReceiptFile:
    start, end = new.window.as_texts()
    return ReceiptFile(id=str(new.holder_id), window=(start, end), rows=new.rows, bytes=new.bytes)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
