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
from timestore.windows import WindowLength
from writers.schemas import check_key_names, check_schema, merge_schemas, pick_timestamp_column


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPlan:
    """Where a put's rows go, or which append its idempotency key already stands for."""

    spec: DatasetSpec
    commit: CommitPlan | None  # None if ``known``
    schema_version: int
    known: KnownAppend | None


class Planner:
    """Makes plans from what the catalog says now. Thread safe."""

    def __init__(self, *, ledger: Ledger) -> None:
        self._ledger = ledger

    def plan(self, descriptor: PutDescriptor, schema: pa.Schema, idempotency_key: str) -> PutPlan:
        """Look up dataset and idempotency key, and check the put's schema against the dataset's.

        The idempotency key comes first, so that a retry works after the schema has moved on. Raises
        ``idempotency_abandoned``, ``dataset_exists``, ``dataset_not_found``, ``name_invalid``, ``schema_mismatch`` or
        ``type_unsupported``.
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
        commit = _plan_append(dataset, schema, descriptor.key)
        return PutPlan(spec=dataset.spec, commit=commit, schema_version=dataset.schema_version, known=None)

    def plan_again(self, spec: DatasetSpec, schema: pa.Schema, descriptor: PutDescriptor) -> CommitPlan:
        """Plan the commit of rows that were routed by ``spec`` with the dataset as it is now.

        Raises ``fenced`` if they would have been routed otherwise, ``schema_mismatch`` if they do not fit any more, and
        ``dataset_exists`` if the put was to create the dataset and another one was quicker.
        """
        dataset = self._ledger.find_dataset(spec.name)
        if dataset is None or not _same_routing(spec, dataset.spec):
            raise error(
                "fenced",
                f"the dataset {spec.name!r} was created, dropped or changed meanwhile; send this again",
                details={"dataset": spec.name},
            )
        _check_new(descriptor)
        return _plan_append(dataset, schema, descriptor.key)


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
    )


def check_agreement(spec: DatasetSpec, options: CreateOptions) -> None:
    """Refuse creation options that contradict an existing dataset; raises ``dataset_exists``."""
    if difference := spec.disagreement(options):
        raise error(
            "dataset_exists",
            f"the dataset {spec.name!r} exists and its {difference}; leave create out, or use another name",
            details={"dataset": spec.name},
        )


def _plan_creation(descriptor: PutDescriptor, schema: pa.Schema) -> PutPlan:
    if descriptor.target is Target.EXISTING:
        raise error(
            "dataset_not_found",
            f"there is no dataset named {descriptor.dataset!r} to append to; use mode create_append, or create_dataset",
            details={"dataset": descriptor.dataset},
        )
    check_schema(schema, descriptor.key)
    spec = new_spec(descriptor.dataset, descriptor.create or CreateOptions(), schema)
    commit = CommitPlan(spec=spec, create=True, schema_version=0, new_schema=schema, key_names=descriptor.key.names)
    return PutPlan(spec=spec, commit=commit, schema_version=1, known=None)


def _plan_append(dataset: Dataset, schema: pa.Schema, key: PartitionKey) -> CommitPlan:
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


def _same_routing(routed: DatasetSpec, current: DatasetSpec) -> bool:
    return replace(routed, incarnation=current.incarnation) == current
