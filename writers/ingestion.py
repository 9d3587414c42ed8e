"""The writing side as the doors see it: begin a put, create a dataset, stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from catalog.errors import OutcomeUnknownError, PlanStaleError, unavailable
from catalog.ledger import Ledger
from catalog.records import CommitPlan
from readers.descriptors import check_descriptors
from timestore.datasets import CreateOptions, Dataset
from timestore.descriptor import Landing, PutDescriptor
from timestore.errors import error
from timestore.identifiers import uuid7
from timestore.names import PartitionKey
from writers.admission import AdmissionGate
from writers.fence import Fence
from writers.new_put import COMMIT_DEADLINE_S, NewPut, Workshop
from writers.planning import check_agreement, new_spec
from writers.put import PutStream, RepeatedPut
from writers.schemas import check_schema
from writers.watchdog import Watchdog


class Ingestion:
    """Begins puts. Thread safe."""

    def __init__(
        self, *, shared: Workshop, gate: AdmissionGate, watchdog: Watchdog, fence: Fence | None = None
    ) -> None:
        self._shared = shared
        self.gate = gate
        self.watchdog = watchdog
        self._fence = fence or Fence()

    @property
    def accepts_puts(self) -> bool:
        return self._fence.is_open and self.gate.is_open

    @contextmanager
    def put(self, descriptor: PutDescriptor, schema: pa.Schema, *, principal: str | None = None) -> Iterator[PutStream]:
        """Begin a put; leaving the context gives back whatever it holds, as does a client that falls silent.

        Raises ``overloaded``, ``shutting_down``, ``fenced``, and what ``Planner.plan`` raises.
        """
        check_descriptors()
        self.gate.enter()
        place = _Place(self.gate)
        try:
            stream = self._begin(descriptor, schema, principal)
            place.stream = stream
            with self.watchdog.watch(place.give_back) as stream.watch:
                yield stream
        finally:
            place.give_back()

    def create_dataset(self, name: str, options: CreateOptions, schema: pa.Schema) -> tuple[Dataset, bool]:
        """Create a dataset without rows; return it and whether it was created now.

        A dataset that exists and agrees is returned as it is. Raises ``dataset_exists``, ``schema_mismatch`` or
        ``type_unsupported``.
        """
        self._fence.check()
        check_schema(schema, PartitionKey())
        ledger = self._shared.ledger
        created = False
        if ledger.find_dataset(name) is None:
            spec = new_spec(name, options, schema)
            plan = CommitPlan(
                spec=spec, create=True, schema_version=0, new_schema=schema, key_names=(), retention=options.retention
            )
            created = _try_creation(ledger, plan)
        dataset = ledger.find_dataset(name)
        if dataset is None or dataset.spec.name != name or not dataset.schema.equals(schema):
            raise error(
                "dataset_exists",
                f"there is another dataset named {name!r}; use another name",
                details={"dataset": name},
            )
        check_agreement(dataset.spec, options)
        return dataset, created

    def _begin(self, descriptor: PutDescriptor, schema: pa.Schema, principal: str | None) -> PutStream:
        self._fence.check()
        if descriptor.landing not in (Landing.AUTO, Landing.FILE):
            raise error("unsupported", f"the landing {descriptor.landing!s} is not available; use file or auto")
        idempotency_key = descriptor.idempotency_key or str(uuid7())
        plan = self._shared.planner.plan(descriptor, schema, idempotency_key)
        if plan.known is not None:
            return RepeatedPut(
                descriptor=descriptor,
                idempotency_key=idempotency_key,
                schema=schema,
                schema_version=plan.schema_version,
                known=plan.known,
                max_batch_bytes=self._shared.limits.max_batch_bytes,
            )
        return NewPut(
            descriptor=descriptor,
            idempotency_key=idempotency_key,
            schema=schema,
            plan=plan,
            principal=principal,
            shared=self._shared,
        )


class _Place:
    """A put's place among the running ones. Thread safe: the put's own thread or the watchdog gives it back, once."""

    def __init__(self, gate: AdmissionGate) -> None:
        self._gate = gate
        self._lock = threading.Lock()
        self._is_held = True
        self.stream: PutStream | None = None

    def give_back(self) -> None:
        """Release everything; return when that is done, whoever does it."""
        with self._lock:
            if not self._is_held:
                return
            self._is_held = False
            try:
                if self.stream is not None:
                    self.stream.close()
            finally:
                self._gate.leave()


def _try_creation(ledger: Ledger, plan: CommitPlan) -> bool:
    try:
        ledger.commit(plan, [], deadline=time.monotonic() + COMMIT_DEADLINE_S)
    except PlanStaleError:
        return False  # somebody else was quicker
    except OutcomeUnknownError as exc:
        raise unavailable() from exc
    return True
