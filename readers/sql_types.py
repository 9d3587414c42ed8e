"""The Arrow types that clients of Flight SQL see: those that a column was sent in, without encodings.

Units, zones, sizes, extension types and metadata come back wherever a result column is a dataset's column, unchanged.
Dictionaries, runs and views do not: JDBC's driver shows the indices of dictionaries, and fails on the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from readers.forms import StorageForm, storage_form
from readers.plain import encoded_batches, is_plain, plain_type
from readers.plain.types import NESTED, child_fields, with_fields

_EXTENSION_METADATA = (b"ARROW:extension:name", b"ARROW:extension:metadata")


def sql_schema(schema: pa.Schema) -> pa.Schema:
    """Return the columns of a dataset as SQL's clients see them."""
    return pa.schema([sql_field(field) for field in schema], metadata=schema.metadata)


def sql_field(field: pa.Field) -> pa.Field:
    """Return a field whose type has no encoding at any depth."""
    type_ = _sql_type(field.type)
    if type_ is field.type:
        return field
    # What names an extension belongs to a type that is no more.
    metadata = {key: value for key, value in (field.metadata or {}).items() if key not in _EXTENSION_METADATA}
    return field.with_type(type_).with_metadata(metadata or None)


def _sql_type(type_: pa.DataType) -> pa.DataType:
    if is_plain(type_) or (isinstance(type_, pa.BaseExtensionType) and is_plain(type_.storage_type)):
        return type_
    if not isinstance(type_, pa.BaseExtensionType) and type_.id in NESTED:
        return with_fields(type_, [sql_field(child) for child in child_fields(type_)])
    return plain_type(type_)


class ArrowTypes:
    """Brings the columns of a result from DuckDB's types into those of the datasets' columns that they are."""

    def __init__(self, fields: Sequence[pa.Field | None]) -> None:
        self._fields = fields  # for each result column that of the dataset; None for a computed one

    def schema(self, found: pa.Schema) -> pa.Schema:
        """Return the schema of the result that comes from DuckDB as ``found``."""
        return pa.schema([_restored(field, of) for field, of in zip(found, self._known(found), strict=True)])

    def restored(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a batch."""
        schema = self.schema(batch.schema)
        arrays = [
            array if field is None else _form(field).from_storage(array)
            for array, field in zip(batch.columns, self._known(batch.schema), strict=True)
        ]
        plain = [pa.field(field.name, array.type) for field, array in zip(schema, arrays, strict=True)]
        yield from encoded_batches(pa.RecordBatch.from_arrays(arrays, schema=pa.schema(plain)), schema)

    def _known(self, found: pa.Schema) -> list[pa.Field | None]:
        """Return the fields whose form the result really has: a query may have changed a column on its way."""
        return [
            of if of is not None and _stored_alike(field.type, _form(of).stored_type) else None
            for field, of in zip(found, self._fields, strict=True)
        ]


def _restored(field: pa.Field, of: pa.Field | None) -> pa.Field:
    """Return a field by its name in the result. It may be null: a join can make it so."""
    if of is None:
        return field
    seen = sql_field(of)
    return pa.field(field.name, seen.type, metadata=seen.metadata)


def _form(field: pa.Field) -> StorageForm:
    form = storage_form(field.type)
    assert form is not None  # no dataset has a column without one
    return form


def _stored_alike(found: pa.DataType, stored: pa.DataType) -> bool:
    """Say whether two types are the same in a file: large texts are texts there."""
    return bool(_small(found) == _small(stored))


def _small(type_: pa.DataType) -> pa.DataType:
    """Return a type without what DuckDB does not tell: large offsets, sizes of lists, names of items."""
    match type_.id:
        case pa.lib.Type_LARGE_STRING:
            return pa.string()
        case pa.lib.Type_LARGE_BINARY | pa.lib.Type_FIXED_SIZE_BINARY:
            return pa.binary()
        case pa.lib.Type_LIST | pa.lib.Type_LARGE_LIST | pa.lib.Type_FIXED_SIZE_LIST:
            return pa.list_(pa.field("item", _small(type_.value_type)))
        case pa.lib.Type_STRUCT:
            return pa.struct([(type_.field(at).name, _small(type_.field(at).type)) for at in range(type_.num_fields)])
        case pa.lib.Type_MAP:
            return pa.map_(_small(type_.key_type), _small(type_.item_type))
    return type_
