"""The forms of nested types: lists and maps as DuckDB has them, each child in its own form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from readers.forms.form import StorageForm, quoted
from readers.plain.nested import build_nested, open_nested
from readers.plain.types import child_fields


def nested_form(type_: pa.DataType, form_of: Callable[[pa.DataType], StorageForm | None]) -> StorageForm | None:
    """Return how a plain nested type is stored; None if some child is not, or there is none."""
    fields = child_fields(type_)
    forms = [form for field in fields if (form := form_of(field.type)) is not None]
    if not fields or len(forms) < len(fields):
        return None
    stored = _stored_type(type_, forms)

    def to_storage(array: pa.Array) -> pa.Array:
        opened = open_nested(array)
        children = [form.to_storage(child) for form, child in zip(forms, opened.children, strict=True)]
        return build_nested(stored, opened, children)

    def from_storage(array: pa.Array) -> pa.Array:
        opened = open_nested(array)
        children = [form.from_storage(child) for form, child in zip(forms, opened.children, strict=True)]
        return build_nested(type_, opened, children)

    return StorageForm(
        sql_type=_sql_type(type_, forms), stored_type=stored, to_storage=to_storage, from_storage=from_storage
    )


def _stored_type(type_: pa.DataType, forms: Sequence[StorageForm]) -> pa.DataType:
    children = [form.stored_type for form in forms]
    match type_.id:
        case pa.lib.Type_STRUCT:
            names = [field.name for field in child_fields(type_)]
            return pa.struct(list(zip(names, children, strict=True)))
        case pa.lib.Type_MAP:
            return pa.map_(*children)
        case pa.lib.Type_LIST:
            return pa.list_(*children)
        case _:
            return pa.large_list(*children)


def _sql_type(type_: pa.DataType, forms: Sequence[StorageForm]) -> str:
    children = [form.sql_type for form in forms]
    match type_.id:
        case pa.lib.Type_STRUCT:
            names = [quoted(field.name) for field in child_fields(type_)]
            return f"STRUCT({', '.join(f'{name} {child}' for name, child in zip(names, children, strict=True))})"
        case pa.lib.Type_MAP:
            return f"MAP({', '.join(children)})"
        case _:
            return f"{children[0]}[]"
