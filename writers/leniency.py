"""Full validation that allows what Arrow forbids and we store all the same, and takes a short way with ASCII."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from readers.plain.types import NESTED, child_fields, with_fields

_AS_BYTES = {pa.lib.Type_STRING: pa.binary(), pa.lib.Type_LARGE_STRING: pa.large_binary()}
_NOT_ASCII = 0x80


def validate_fully(batch: pa.RecordBatch) -> None:
    """Check that every buffer is what its type says; raise ``pa.ArrowInvalid`` or ``pa.ArrowIndexError``.

    Arrow wants whole days of a date64. Java's clients send other instants, and they are stored as they are.

    The structure must be valid (``validate()``). Arrow looks at texts one by one, which takes several times as long as
    all else; bytes that are all ASCII are valid UTF-8 wherever they are cut, so of these only the places are checked.
    """
    types = [_checked_type(column) for column in batch.columns]
    if any(checked is not field.type for checked, field in zip(types, batch.schema, strict=True)):
        fields = [field.with_type(checked) for checked, field in zip(types, batch.schema, strict=True)]
        batch = pa.record_batch(_Retyped(batch, pa.schema(fields)))
    batch.validate(full=True)


def _checked_type(column: pa.Array) -> pa.DataType:
    """Return the type by which a column is checked: its own, or one of the same layout that allows more."""
    type_ = column.type
    if (as_bytes := _AS_BYTES.get(type_.id)) is not None:
        return as_bytes if _is_ascii(column.buffers()[2]) else type_
    return _without_date64(type_)


def _is_ascii(texts: pa.Buffer | None) -> bool:
    """Say whether all bytes are, those between and beside the texts included."""
    return texts is None or not texts.size or int(np.frombuffer(texts, np.uint8).max()) < _NOT_ASCII


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
