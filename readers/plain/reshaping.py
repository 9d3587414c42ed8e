"""From the plain types of an older schema to those of a later one."""

from __future__ import annotations

import pyarrow as pa

from readers.plain.nested import build_nested, open_nested
from readers.plain.types import NESTED, child_fields


def reshape(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Bring a plain array into another plain type that holds all its values: wider numbers, larger texts and lists.

    What a schema may change into what, ``writers.schemas`` decides.
    """
    if array.type is type_:
        return array
    if type_.id not in NESTED:
        return array if array.type == type_ else array.cast(type_)
    opened = open_nested(array)
    fields = child_fields(type_)
    children = [reshape(child, field.type) for child, field in zip(opened.children, fields, strict=True)]
    return build_nested(type_, opened, children)
