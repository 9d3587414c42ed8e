"""Full validation that allows what Arrow forbids and we store all the same."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from readers.plain.types import NESTED, child_fields, with_fields


def validate_fully(batch: pa.RecordBatch) -> None:
    """Check that every buffer is what its type says; raise ``pa.ArrowInvalid`` or ``pa.ArrowIndexError``.

    Arrow wants whole days of a date64. Java's clients send other instants, and they are stored as they are.
    """
    if any(_has_date64(field.type) for field in batch.schema):
        schema = pa.schema([field.with_type(_without_date64(field.type)) for field in batch.schema])
        batch = pa.record_batch(_Retyped(batch, schema))
    batch.validate(full=True)


class _Retyped:
    """A batch that offers its buffers under other types of the same layout."""

    def __init__(self, batch: pa.RecordBatch, schema: pa.Schema) -> None:
        self._batch = batch
        self._schema = schema

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        _, array = self._batch.__arrow_c_array__()
        return self._schema.__arrow_c_schema__(), array


def _has_date64(type_: pa.DataType) -> bool:
    if isinstance(type_, pa.BaseExtensionType):
        return _has_date64(type_.storage_type)
    if type_.id in (pa.lib.Type_DICTIONARY, pa.lib.Type_RUN_END_ENCODED):
        return _has_date64(type_.value_type)
    if type_.id in NESTED:
        return any(_has_date64(field.type) for field in child_fields(type_))
    return bool(type_ == pa.date64())


def _without_date64(type_: pa.DataType) -> pa.DataType:
    """Return a type of the same layout that has int64 in place of date64."""
    if not _has_date64(type_):
        return type_
    if isinstance(type_, pa.BaseExtensionType):
        return _without_date64(type_.storage_type)
    match type_.id:
        case pa.lib.Type_DICTIONARY:
            return pa.dictionary(type_.index_type, _without_date64(type_.value_type), type_.ordered)
        case pa.lib.Type_RUN_END_ENCODED:
            return pa.run_end_encoded(type_.run_end_type, _without_date64(type_.value_type))
        case pa.lib.Type_DATE64:
            return pa.int64()
    fields = [field.with_type(_without_date64(field.type)) for field in child_fields(type_)]
    match type_.id:
        case pa.lib.Type_LIST_VIEW:
            return pa.list_view(*fields)
        case pa.lib.Type_LARGE_LIST_VIEW:
            return pa.large_list_view(*fields)
        case _:
            return with_fields(type_, fields)
