"""Which types are refused, and where in a nested type they are."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from readers.forms.flat import flat_form
from readers.plain.types import EXTENSION_NAME, NESTED, VIEWS, child_fields

MAX_DEPTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A type that cannot be stored, and its place: ``column``, ``column.field``, ``column[]``, ``column.key``, ..."""

    place: str
    type: str
    reason: str


def find_refused(field: pa.Field) -> Refused | None:
    """Return the first type in a field that cannot be stored and come back bit for bit."""
    return _search(field, field.name, 1)


def child_place(place: str, parent: pa.DataType, child: pa.Field, position: int) -> str:
    """Name the place of a child as messages do."""
    if parent.id == pa.lib.Type_STRUCT:
        return f"{place}.{child.name}"
    if parent.id == pa.lib.Type_MAP:
        return f"{place}.{('key', 'value')[position]}"
    return f"{place}[]"


def _search(field: pa.Field, place: str, depth: int) -> Refused | None:
    type_, extensions = value_type(field)
    if extensions > 1:
        return Refused(place=place, type=type_name(field.type), reason="send one extension without another inside")
    if _is_dictionary_of_extension(field.type):
        return Refused(place=place, type=type_name(field.type), reason="Arrow has extensions of dictionaries only")
    if depth > MAX_DEPTH:
        return Refused(place=place, type=type_name(type_), reason=f"at most {MAX_DEPTH} levels of nesting are stored")
    if type_.id not in NESTED:
        return _refused_leaf(type_, place)
    fields = child_fields(type_)
    if not fields:
        return Refused(place=place, type="struct<>", reason="a struct needs a field")
    for position, child in enumerate(fields):
        if refused := _search(child, child_place(place, type_, child, position), depth + 1):
            return refused
    return None


def value_type(field: pa.Field) -> tuple[pa.DataType, int]:
    """Return the type of a field's values without dictionaries, runs and extensions, and how many extensions."""
    type_, extensions = field.type, 0
    named = EXTENSION_NAME in (field.metadata or {})
    while True:
        if isinstance(type_, pa.BaseExtensionType):
            type_, extensions, named = type_.storage_type, extensions + 1, False
        elif type_.id == pa.lib.Type_DICTIONARY:
            type_ = type_.value_type
        elif type_.id == pa.lib.Type_RUN_END_ENCODED:
            inner, more = value_type(type_.field(1))
            return inner, extensions + more + named
        else:
            return type_, extensions + named


def _is_dictionary_of_extension(type_: pa.DataType) -> bool:
    """Say whether a schema with this type could be written, but not read: IPC turns the two around."""
    while type_.id == pa.lib.Type_RUN_END_ENCODED or isinstance(type_, pa.BaseExtensionType):
        type_ = type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_.value_type
    return type_.id == pa.lib.Type_DICTIONARY and isinstance(type_.value_type, pa.BaseExtensionType)


def _refused_leaf(type_: pa.DataType, place: str) -> Refused | None:
    if type_.id in VIEWS or flat_form(type_) is not None:
        return None
    return Refused(place=place, type=type_name(type_), reason="cast it before sending")


def type_name(type_: pa.DataType) -> str:
    """Spell a type, shortened where it is long."""
    text = str(type_)
    return text if len(text) <= 200 else f"{text[:200]}..."
