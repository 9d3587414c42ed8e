"""A put that writes: see ``writers.put``."""

from __future__ import annotations

import time
from dataclasses import replace

import pyarrow as pa

from access.grants import Permission
from access.principal import Principal
from catalog.errors import OutcomeUnknownError, PlanStaleError
from catalog.records import CommitOutcome, CommitPlan, NewAppend, Outcome
from readers.stamps import units_per_second
from timestore.descriptor import PutDescriptor
from timestore.errors import InternalError, error
from timestore.identifiers import uuid7
from timestore.receipt import Receipt
from writers.appends import new_append
from writers.data_file import AppendFacts
from writers.held_back import HeldBack, held_bytes
from writers.planning import PutPlan, check_room
from writers.put import Cancelled, PutStream, cancelled, first_receipt, replay
from writers.put_files import PutFiles
from writers.put_outcomes import Stage
from writers.routing import Router
from writers.row_types import schema_moved
from writers.storability import StorableRows
from writers.validation import BatchValidator
from writers.workshop import Workshop

COMMIT_DEADLINE_S = 30.0
MAX_PLANS = 20  # a plan goes stale only when another put changed the dataset, which ends soon


class NewPut(PutStream):
    """A put whose idempotency key is free so far. Driven by one thread; writers report to it from others."""

    def __init__(
        self,
        *,
        descriptor: PutDescriptor,
        idempotency_key: str,
        schema: pa.Schema,
        plan: PutPlan,
        principal: Principal,
        shared: Workshop,
    ) -> None:
        super().__init__(
            descriptor=descriptor, idempotency_key=idempotency_key, schema=schema, schema_version=plan.schema_version
        )
        assert plan.commit is not None  # only a known append has no plan
        self._spec = plan.spec
        self.storage = plan.spec.storage
        self._commit_plan: CommitPlan = plan.commit
        self._principal = principal
        self._shared = shared
        self._validator = BatchValidator(schema=schema, spec=plan.spec, max_batch_bytes=shared.limits.max_batch_bytes)
        self._storable = StorableRows(schema)
        self._router = Router(
            window=plan.spec.window,
            units_per_second=units_per_second(schema.field(plan.spec.timestamp_column).type),
            max_windows=shared.limits.max_windows_per_put,
        )
        self._files = PutFiles(
            spec=plan.spec,
            key=descriptor.key,
            schema=schema,
            facts=AppendFacts(append_id=uuid7(), idempotency_key=idempotency_key),
            visible_bytes=plan.visible_bytes,
            shared=shared,
            times=self.times,
        )
        self._held_back = HeldBack()
        self._largest_batch = 0
        self._reserved_next = 0

    def make_room(self) -> None:
        self._files.raise_failure()
        self._reserved_next = self._largest_batch
        with self.times.spent_in(Stage.ROOM):
            self._shared.budget.reserve(self._files.buffer, self._reserved_next)

    def add(self, batch: pa.RecordBatch) -> None:
        self._files.raise_failure()
        with self.times.spent_in(Stage.VALIDATE):
            stamps = self._validator.check(batch)
            sent_bytes = batch.nbytes  # not sooner: it follows offsets
            batch = self._storable.plain(batch)  # decoded once, for the digest too
        self._count(batch, sent_bytes=sent_bytes)
        self._check_row_limit()
        size = held_bytes(batch) if batch.num_rows else 0
        self._shared.budget.adjust(self._files.buffer, size - self._reserved_next)
        self._reserved_next = 0
        if batch.num_rows:
            self._largest_batch = max(self._largest_batch, size)
            if self._held_back.is_enough:
                self._route_held_back()
            self._held_back.add(batch, stamps, size)

    def _finish(self, *, marker_rows: int | None, is_cancelled: Cancelled) -> Receipt:
        self._check_end(marker_rows, is_cancelled)
        fingerprint = self._checked_fingerprint()
        received = time.monotonic()
        self._files.facts = replace(self._files.facts, fingerprint=fingerprint, total_rows=self.rows)
        self._route_held_back()
        self._files.finish(is_cancelled)
        timings = {
            "receive": _milliseconds(received - self._started),
            "land": _milliseconds(time.monotonic() - received),
        }
        # The last look before the commit: a client that died looks like a clean end of its stream.
        if is_cancelled():
            raise cancelled()
        self._judge_again()
        append = self._new_append(fingerprint, timings)
        with self.times.spent_in(Stage.COMMIT):
            outcome = self._publish(append)
        if outcome.outcome is Outcome.COMMITTED:
            self._files.let_go()
            return first_receipt(outcome.known)
        if outcome.visible_bytes is not None:
            check_room(self._spec, visible=outcome.visible_bytes, new=sum(new.bytes for new in append.slices))
        return replay(outcome.known, fingerprint, self.idempotency_key)

    def close(self) -> None:
        self._files.stop()
        self._held_back = HeldBack()
        self._files.remove()

    def _judge_again(self) -> None:
        """Look whether the put may still be made: a token may have been revoked since. Mostly the answer is cached."""
        permissions = (Permission.APPEND, Permission.CREATE) if self._commit_plan.create else (Permission.APPEND,)
        principal = self._principal.now()
        for permission in permissions:
            principal.require(self._spec.name, permission)

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
            self._shared.budget.adjust(self._files.buffer, size - counted)
            with self.times.spent_in(Stage.SPLIT):
                routed = self._router.split(batch, stamps)
            self._files.buffer.add(routed, size)

    def _checked_fingerprint(self) -> str:
        fingerprint = self._fingerprint()
        if self.descriptor.fingerprint not in (None, fingerprint):
            raise error(
                "descriptor_invalid",
                f"the stream's fingerprint is {fingerprint}, but the descriptor says {self.descriptor.fingerprint}",
                details={"fingerprint": fingerprint},
            )
        return fingerprint

    def _publish(self, append: NewAppend) -> CommitOutcome:
        """Commit, planning again as often as other puts change the dataset."""
        deadline = time.monotonic() + COMMIT_DEADLINE_S
        for _ in range(MAX_PLANS):
            try:
                [outcome] = self._shared.ledger.commit(self._commit_plan, [append], deadline=deadline)
                return outcome
            except PlanStaleError:
                if self.descriptor.typed_by_dataset:
                    raise schema_moved(self._spec.name) from None
                self._commit_plan = self._shared.planner.plan_again(self._commit_plan, self.schema, self.descriptor)
            except OutcomeUnknownError as exc:
                self._files.let_go()  # the commit may have happened: nothing may be deleted
                raise error(
                    "catalog_unavailable",
                    "the catalog did not say whether the append was committed; send it again with the same idempotency "
                    "key: it gives the receipt, or makes it",
                    details={"outcome": "unknown", "idempotency_key": self.idempotency_key},
                    retry_after_s=1.0,
                ) from exc
        raise error("fenced", f"the schema of {self._spec.name!r} keeps changing; send this again", retry_after_s=1.0)

    def _new_append(self, fingerprint: str, timings: dict[str, float]) -> NewAppend:
        slices = self._files.slices()
        if sum(new.rows for new in slices) != self.rows:
            raise InternalError("internal", f"{self.rows} rows came, but other files were written; send this again")
        return new_append(
            dataset=self._spec.name,
            key=self.descriptor.key,
            append_id=self._files.facts.append_id,
            idempotency_key=self.idempotency_key,
            fingerprint=fingerprint,
            rows=self.rows,
            arrow_bytes=self.bytes,
            principal=self._principal.name,
            slices=slices,
            timings_ms=timings,
        )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
