"""The writing side as the doors see it: begin a put, create a dataset, stop."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pyarrow as pa

from access.grants import Permission
from access.principal import Principal
from catalog.errors import OutcomeUnknownError, PlanStaleError, unavailable
from catalog.ledger import Ledger
from catalog.records import CommitPlan
from readers.descriptors import check_descriptors
from timestore.datasets import CreateOptions, Dataset
from timestore.descriptor import Landing, PutDescriptor
from timestore.errors import TimestoreError, error
from timestore.identifiers import uuid7
from timestore.names import PartitionKey
from timestore.storage_target import DEFAULT_STORAGE
from writers.admission import AdmissionGate
from writers.fence import Fence
from writers.horizon_notes import HorizonNotes
from writers.new_put import COMMIT_DEADLINE_S, NewPut
from writers.planning import check_agreement, new_spec
from writers.principal_limits import PrincipalGate
from writers.put import PutStream, RepeatedPut
from writers.put_outcomes import COMMITTED, REPLAYED, EndedPut, PutObserver, Unobserved
from writers.schemas import check_schema
from writers.watchdog import Watchdog
from writers.workshop import Workshop


class Ingestion:
    """Begins puts. Thread safe."""

    def __init__(
        self, *, shared: Workshop, gate: AdmissionGate, watchdog: Watchdog, fence: Fence, horizon: HorizonNotes
    ) -> None:
        self._shared = shared
        self.gate = gate
        self.watchdog = watchdog
        self._fence = fence
        self._horizon = horizon
        self._principals = PrincipalGate()
        self._observer: PutObserver = Unobserved()

    def observed_by(self, observer: PutObserver) -> Self:
        """Return the same writing side for a door of its own: what that begins, ``observer`` hears of."""
        door = copy.copy(self)
        door._observer = observer
        return door

    @property
    def accepts_puts(self) -> bool:
        return self.refusal is None

    @property
    def refusal(self) -> str | None:
        """Return the kind of error that every put to the default target gets now; None while they are accepted."""
        if not self._fence.is_open(DEFAULT_STORAGE):
            return "fenced"
        return None if self.gate.is_open else "shutting_down"

    @contextmanager
    def put(self, descriptor: PutDescriptor, schema: pa.Schema, principal: Principal) -> Iterator[PutStream]:
        """Begin a put; leaving the context gives back whatever it holds, as does a client that falls silent.

        Raises ``permission_denied`` before anything else is looked at, ``overloaded``, ``shutting_down``, ``fenced``,
        and what ``Planner.plan`` raises.
        """
        started = time.monotonic()
        stream: PutStream | None = None
        outcome = "cancelled"  # if it is left without a receipt and without an error
        try:
            with self._put(descriptor, schema, principal) as stream:
                yield stream
        except BaseException as exc:
            outcome = exc.kind if isinstance(exc, TimestoreError) else "internal"
            raise
        finally:
            self._observer.put_ended(_ended(stream, outcome, seconds=time.monotonic() - started))

    @contextmanager
    def _put(self, descriptor: PutDescriptor, schema: pa.Schema, principal: Principal) -> Iterator[PutStream]:
        principal.require(descriptor.dataset, Permission.APPEND)
        check_descriptors()
        place = _Place(self.gate, self._principals, principal)
        try:
            stream = self._begin(descriptor, schema, principal)
            stream.pace = place.pace
            place.stream = stream
            with self.watchdog.watch(place.give_back) as stream.watch:
                yield stream
        finally:
            place.give_back()
            if place.stream is not None and place.stream.storage is not None:
                self._horizon.due(place.stream.storage)

    def check(self, descriptor: PutDescriptor, principal: Principal) -> None:
        """Refuse what ``put`` would refuse without a look at the rows, for doors that can say so before they come.

        Raises ``permission_denied`` or ``shutting_down``.
        """
        principal.require(descriptor.dataset, Permission.APPEND)
        self.gate.check()

    def create_dataset(
        self, name: str, options: CreateOptions, schema: pa.Schema, principal: Principal
    ) -> tuple[Dataset, bool]:
        """Create a dataset without rows; return it and whether it was created now.

        A dataset that exists and agrees is returned as it is. Raises ``permission_denied``, ``dataset_exists``,
        ``schema_mismatch`` or ``type_unsupported``.
        """
        principal.require(name, Permission.CREATE)
        self._fence.check(options.storage or DEFAULT_STORAGE)
        check_schema(schema, PartitionKey())
        ledger = self._shared.ledger
        created = False
        if ledger.find_dataset(name) is None:
            spec = new_spec(name, options, schema)
            plan = CommitPlan(
                spec=spec, create=True, schema_version=0, new_schema=schema, key_names=(), retention=options.retention
            )
            created = _try_creation(ledger, plan)
            self._horizon.due(spec.storage)
        dataset = ledger.find_dataset(name)
        if dataset is None or dataset.spec.name != name or not dataset.schema.equals(schema):
            raise error(
                "dataset_exists",
                f"there is another dataset named {name!r}; use another name",
                details={"dataset": name},
            )
        check_agreement(dataset.spec, options)
        return dataset, created

    def _begin(self, descriptor: PutDescriptor, schema: pa.Schema, principal: Principal) -> PutStream:
        if descriptor.landing not in (Landing.AUTO, Landing.FILE):
            raise error("unsupported", f"the landing {descriptor.landing!s} is not available; use file or auto")
        idempotency_key = descriptor.idempotency_key or str(uuid7())
        plan = self._shared.planner.plan(descriptor, schema, idempotency_key)
        if plan.creates:
            principal.require(descriptor.dataset, Permission.CREATE)
        self._fence.check(plan.spec.storage)
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

    def __init__(self, gate: AdmissionGate, principals: PrincipalGate, principal: Principal) -> None:
        """Take the place; raises ``overloaded`` or ``shutting_down`` at once if there is none."""
        self._gate = gate
        self._principals = principals
        self._principal = principal
        self._lock = threading.Lock()
        self.pace = principals.enter(principal)
        try:
            gate.enter()
        except BaseException:
            principals.leave(principal)
            raise
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
                self._principals.leave(self._principal)


def _ended(stream: PutStream | None, outcome: str, *, seconds: float) -> EndedPut:
    receipt = stream.receipt if stream is not None else None
    if receipt is not None:  # whatever happened after that
        outcome = REPLAYED if receipt.replayed else COMMITTED
    return EndedPut(
        outcome=outcome,
        rows=stream.rows if stream is not None else 0,
        bytes=stream.bytes if stream is not None else 0,
        seconds=seconds,
        stages=stream.times.by_stage() if stream is not None else {},
    )


def _try_creation(ledger: Ledger, plan: CommitPlan) -> bool:
    try:
        ledger.commit(plan, [], deadline=time.monotonic() + COMMIT_DEADLINE_S)
    except PlanStaleError:
        return False  # somebody else was quicker
    except OutcomeUnknownError as exc:
        raise unavailable() from exc
    return True
