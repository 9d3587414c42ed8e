"""Plain types: what is left of a type when encodings are taken off at every depth."""

from __future__ import annotations

import pyarrow as pa

EXTENSION_NAME = b"ARROW:extension:name"
LISTS = frozenset({pa.lib.Type_LIST, pa.lib.Type_LARGE_LIST})
LIST_VIEWS = frozenset({pa.lib.Type_LIST_VIEW, pa.lib.Type_LARGE_LIST_VIEW})
VIEWS = {pa.lib.Type_STRING_VIEW: pa.string(), pa.lib.Type_BINARY_VIEW: pa.binary()}
ENCODED = LIST_VIEWS | {*VIEWS, pa.lib.Type_DICTIONARY, pa.lib.Type_RUN_END_ENCODED}
NESTED = LISTS | LIST_VIEWS | {pa.lib.Type_FIXED_SIZE_LIST, pa.lib.Type_STRUCT, pa.lib.Type_MAP}


def is_plain(type_: pa.DataType) -> bool:
    """Say whether nothing is encoded at any depth of a type."""
    if isinstance(type_, pa.BaseExtensionType) or type_.id in ENCODED:
        return False
    return type_.id not in NESTED or all(is_plain(field.type) for field in child_fields(type_))


def has_dictionary(schema: pa.Schema) -> bool:
    """Say whether a schema has a dictionary at any depth."""
    return any(_is_or_has_dictionary(field.type) for field in schema)


def _is_or_has_dictionary(type_: pa.DataType) -> bool:
    if isinstance(type_, pa.BaseExtensionType):
        return _is_or_has_dictionary(type_.storage_type)
    if type_.id == pa.lib.Type_RUN_END_ENCODED:
        return _is_or_has_dictionary(type_.value_type)
    if type_.id == pa.lib.Type_DICTIONARY:
        return True
    return type_.id in NESTED and any(_is_or_has_dictionary(field.type) for field in child_fields(type_))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of plain rows: names, logical types and metadata are those of ``schema``."""
    return pa.schema([plain_field(field) for field in schema], metadata=schema.metadata)


def plain_field(field: pa.Field) -> pa.Field:
    """Return a field with its plain type. An extension type leaves its name in the metadata, where digests find it."""
    plain = plain_type(field.type)
    if plain is field.type:  # unlike field.type == plain, this sees nested metadata
        return field
    metadata = dict(field.metadata or {})
    if name := extension_name(field):
        metadata[EXTENSION_NAME] = name
    return field.with_type(plain).with_metadata(metadata or None)


def extension_name(field: pa.Field) -> bytes | None:
    """Return the name of a field's extension type, known here or not, also inside a dictionary or runs."""
    name: bytes | None = (field.metadata or {}).get(EXTENSION_NAME)
    type_ = field.type
    while True:
        if isinstance(type_, pa.BaseExtensionType):
            return str(type_.extension_name).encode()
        if type_.id == pa.lib.Type_DICTIONARY:
            type_ = type_.value_type
        elif type_.id == pa.lib.Type_RUN_END_ENCODED:
            inner: pa.Field = type_.field(1)
            return extension_name(inner) or name
        else:
            return name


def plain_type(type_: pa.DataType) -> pa.DataType:
    """Return the plain type of a type; the very object if it is plain already."""
    if is_plain(type_):
        return type_
    if isinstance(type_, pa.BaseExtensionType):
        return plain_type(type_.storage_type)
    if type_.id in (pa.lib.Type_DICTIONARY, pa.lib.Type_RUN_END_ENCODED):
        return plain_type(type_.value_type)
    if type_.id in VIEWS:
        return VIEWS[type_.id]
    return with_fields(type_, [plain_field(field) for field in child_fields(type_)])


def child_fields(type_: pa.DataType) -> list[pa.Field]:
    """Return the fields of a nested type: of a struct all, of a map key and value, of a list its items'."""
    if type_.id == pa.lib.Type_STRUCT:
        return [type_.field(position) for position in range(type_.num_fields)]
    if type_.id == pa.lib.Type_MAP:
        return [type_.key_field, type_.item_field]
    return [type_.value_field]


def with_fields(type_: pa.DataType, fields: list[pa.Field]) -> pa.DataType:
    """Return a nested type with other fields; a list view becomes a list."""
    match type_.id:
        case pa.lib.Type_STRUCT:
            return pa.struct(fields)
        case pa.lib.Type_MAP:
            return pa.map_(*fields, keys_sorted=type_.keys_sorted)
        case pa.lib.Type_FIXED_SIZE_LIST:
            return pa.list_(fields[0], type_.list_size)
        case pa.lib.Type_LIST | pa.lib.Type_LIST_VIEW:
            return pa.list_(fields[0])
        case _:
            return pa.large_list(fields[0])
