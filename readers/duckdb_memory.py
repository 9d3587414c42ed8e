"""What DuckDB needs to move rows, beyond the limit that an instance has for itself.

It handles 2 048 rows at once, however wide they are, and holds a block or a vector for each column. Both are bounded,
by ``max_batch_bytes`` and by ``MAX_FIELDS``; a limit below them would refuse rows that were taken already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

MAX_FIELDS = 4_096  # of a schema, nested ones included
_FIELD_BYTES = 1 << 16  # measured: files of 1 000 columns needed 48 to 64 KiB for each


def count_fields(fields: Iterable[pa.Field]) -> int:
    """Count fields with those inside them: DuckDB keeps each on its own."""
    return sum(1 + _count_inside(field.type) for field in fields)


def nesting_depth(fields: Iterable[pa.Field]) -> int:
    """Return how many levels the deepest type has inside it; 0 if there are plain columns only."""
    return max((_depth_inside(field.type) for field in fields), default=0)


def needed_bytes(*, fields: Iterable[pa.Field], arrow_bytes: int) -> int:
    """Return what moving rows that take ``arrow_bytes`` in Arrow needs."""
    return 2 * arrow_bytes + _FIELD_BYTES * count_fields(fields)


def _count_inside(type_: pa.DataType) -> int:
    return count_fields(_fields_inside(type_))


def _depth_inside(type_: pa.DataType) -> int:
    return max((1 + _depth_inside(field.type) for field in _fields_inside(type_)), default=0)


def _fields_inside(type_: pa.DataType) -> Sequence[pa.Field]:
    if pa.types.is_dictionary(type_):
        return _fields_inside(type_.value_type)
    if isinstance(type_, pa.BaseExtensionType):
        return _fields_inside(type_.storage_type)
    return [type_.field(position) for position in range(type_.num_fields)]
