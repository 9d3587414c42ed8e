"""What a put takes for granted about its dataset: looked up at ``ready``, and again when a commit finds it changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import uuid4

import pyarrow as pa

from catalog.ledger import Ledger
from catalog.records import CommitPlan, KnownAppend
from timestore.datasets import DEFAULT_WINDOW, Bounds, CreateOptions, Dataset, DatasetSpec, Evolution, Order
from timestore.descriptor import PutDescriptor, Target
from timestore.errors import TimestoreError, error
from timestore.names import PartitionKey
from timestore.storage_target import DEFAULT_STORAGE
from timestore.windows import WindowLength
from writers.schemas import check_key_names, check_schema, merge_schemas, pick_timestamp_column


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPlan:
    """Where a put's rows go, or which append its idempotency key already stands for."""

    spec: DatasetSpec
    commit: CommitPlan | None  # None if ``known``
    schema_version: int
    known: KnownAppend | None
    visible_bytes: int = 0  # what the dataset's visible data files take

    @property
    def creates(self) -> bool:
        return self.commit is not None and self.commit.create


class Planner:
    """Makes plans from what the catalog says now. Thread safe."""

    def __init__(self, *, ledger: Ledger) -> None:
        self._ledger = ledger

    def plan(self, descriptor: PutDescriptor, schema: pa.Schema, idempotency_key: str) -> PutPlan:
        """Look up dataset and idempotency key, and check the put's schema against the dataset's.

        The idempotency key comes first, so that a retry works after the schema has moved on. Raises
        ``idempotency_abandoned``, ``dataset_exists``, ``dataset_not_found``, ``name_invalid``, ``schema_mismatch``,
        ``type_unsupported`` or ``dataset_full``.
        """
        dataset, known = self._ledger.find_for_put(descriptor.dataset, idempotency_key)
        if dataset is None:
            return _plan_creation(descriptor, schema)
        _check_spelling(dataset, descriptor.dataset)
        if known is not None:
            return PutPlan(spec=dataset.spec, commit=None, schema_version=dataset.schema_version, known=known)
        _check_new(descriptor)
        if descriptor.create is not None:
            check_agreement(dataset.spec, descriptor.create)
        commit = plan_append(dataset, schema, descriptor.key)
        check_room(dataset.spec, visible=dataset.totals.bytes, new=1)
        return PutPlan(
            spec=dataset.spec,
            commit=commit,
            schema_version=dataset.schema_version,
            known=None,
            visible_bytes=dataset.totals.bytes,
        )

    def plan_again(self, plan: CommitPlan, schema: pa.Schema, descriptor: PutDescriptor) -> CommitPlan:
        """Plan the commit of rows that were routed by a plan gone stale, with the dataset as it is now.

        Raises ``fenced`` if it is another dataset or they would have been routed otherwise, ``schema_mismatch`` if they
        do not fit any more, and ``dataset_exists`` if the put was to create the dataset and another one was quicker.
        """
        dataset = self._ledger.find_dataset(plan.spec.name)
        if dataset is None or not _takes_rows_of(plan, dataset.spec):
            raise error(
                "fenced",
                f"the dataset {plan.spec.name!r} was created, dropped or changed meanwhile; send this again",
                details={"dataset": plan.spec.name},
            )
        _check_new(descriptor)
        return plan_append(dataset, schema, descriptor.key)


def new_spec(name: str, options: CreateOptions, schema: pa.Schema) -> DatasetSpec:
    """Decide what a new dataset is, with defaults for what ``options`` leaves open; raises ``schema_mismatch``."""
    return DatasetSpec(
        name=name,
        incarnation=uuid4(),
        timestamp_column=pick_timestamp_column(schema, options.timestamp_column),
        window=options.window or WindowLength.parse(DEFAULT_WINDOW),
        order=options.order or Order.ORDERED,
        evolution=options.evolution or Evolution.ADDITIVE,
        bounds=options.bounds or Bounds(),
        limits=options.limits,
        storage=options.storage or DEFAULT_STORAGE,
    )


def check_agreement(spec: DatasetSpec, options: CreateOptions) -> None:
    """Refuse creation options that contradict an existing dataset; raises ``dataset_exists``."""
    if difference := spec.disagreement(options):
        raise error(
            "dataset_exists",
            f"the dataset {spec.name!r} exists and its {difference}; leave create out, or use another name",
            details={"dataset": spec.name},
        )


def check_room(spec: DatasetSpec, *, visible: int, new: int) -> None:
    """Refuse new bytes beside those visible that the dataset may not have; raises ``dataset_full``."""
    limit = spec.limits.max_bytes
    if limit is not None and visible + new > limit:
        raise error(
            "dataset_full",
            f"the data files of {spec.name!r} take {visible} bytes and may take {limit}, so this put does not fit; "
            "shorten the dataset's retention, or use another dataset",
            details={"dataset": spec.name, "limit": limit, "bytes": visible},
        )


def _plan_creation(descriptor: PutDescriptor, schema: pa.Schema) -> PutPlan:
    if descriptor.target is Target.EXISTING:
        raise error(
            "dataset_not_found",
            f"there is no dataset named {descriptor.dataset!r} to append to; use mode create_append, or create_dataset",
            details={"dataset": descriptor.dataset},
        )
    check_schema(schema, descriptor.key)
    options = descriptor.create or CreateOptions()
    spec = new_spec(descriptor.dataset, options, schema)
    commit = CommitPlan(
        spec=spec,
        create=True,
        schema_version=0,
        new_schema=schema,
        key_names=descriptor.key.names,
        retention=options.retention,
    )
    return PutPlan(spec=spec, commit=commit, schema_version=1, known=None)


def plan_append(dataset: Dataset, schema: pa.Schema, key: PartitionKey) -> CommitPlan:
    """Plan a commit of rows into a dataset as it is; raises ``schema_mismatch`` or ``type_unsupported``."""
    if dataset.key_names is not None:
        check_key_names(dataset.key_names, key, dataset.spec.name)
    check_schema(schema, key)
    merged = merge_schemas(dataset.schema, schema, dataset.spec)
    check_schema(merged, key)
    return CommitPlan(
        spec=dataset.spec,
        create=False,
        schema_version=dataset.schema_version,
        new_schema=merged if merged is not dataset.schema else None,
        key_names=key.names,
    )


def _check_new(descriptor: PutDescriptor) -> None:
    """Refuse a put that was to create its dataset, which is there."""
    if descriptor.target is Target.NEW:
        raise error(
            "dataset_exists",
            f"the dataset {descriptor.dataset!r} exists; use mode append or create_append to add rows to it",
            details={"dataset": descriptor.dataset},
        )


def _check_spelling(dataset: Dataset, name: str) -> None:
    if dataset.spec.name != name:
        raise _taken(dataset.spec.name, name)


def _taken(existing: str, wanted: str) -> TimestoreError:
    return error(
        "name_invalid",
        f"there is a dataset named {existing!r}; {wanted!r} differs only in case, and names are unique ignoring case",
        details={"existing": existing},
    )


def _takes_rows_of(plan: CommitPlan, current: DatasetSpec) -> bool:
    """Say whether rows routed by a plan may go into a dataset: it has been that one, or both would create the same."""
    if not plan.create:
        return plan.spec == current
    return replace(plan.spec, incarnation=current.incarnation) == current
