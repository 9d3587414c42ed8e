"""Whether a dataset's dictionaries and runs can count what a put may send.

A read cuts its batches where a dictionary's index or a run's end is too small to go on, but one row cannot be cut:
inside lists and maps a row has many values. Rows that came in the same form always fit, for so many came in one
dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from readers.forms.refusals import child_place
from readers.plain.encoding import dictionary_capacity, run_capacity
from readers.plain.types import NESTED, child_fields

_AMPLE = (1 << 31) - 1  # more than one row can have


def uncountable_place(have: pa.Field, sent: pa.Field) -> str | None:
    """Return a place, inside lists or maps, where the dataset's form cannot count the values of the put's rows."""
    return next(_places(have.type, sent.type, have.name, many=False), None)


def _places(have: pa.DataType, sent: pa.DataType, place: str, *, many: bool) -> Iterator[str]:
    mine, theirs = _Capacity(have), _Capacity(sent)
    if many and not mine.holds(theirs):
        yield place
    if mine.plain.id not in NESTED or theirs.plain.id not in NESTED:
        return
    many = many or mine.plain.id != pa.lib.Type_STRUCT
    pairs = zip(child_fields(mine.plain), child_fields(theirs.plain), strict=False)
    for position, (one, other) in enumerate(pairs):
        yield from _places(one.type, other.type, child_place(place, mine.plain, one, position), many=many)


class _Capacity:
    """How many different values, and how many values, an array of a type can have in its dictionaries and runs."""

    def __init__(self, type_: pa.DataType) -> None:
        self.different = self.values = _AMPLE
        while True:
            if isinstance(type_, pa.BaseExtensionType):
                type_ = type_.storage_type
            elif type_.id == pa.lib.Type_DICTIONARY:
                self.different = min(self.different, dictionary_capacity(type_))
                type_ = type_.value_type
            elif type_.id == pa.lib.Type_RUN_END_ENCODED:
                self.values = min(self.values, run_capacity(type_))
                type_ = type_.value_type
            else:
                self.plain = type_
                return

    def holds(self, other: _Capacity) -> bool:
        different = min(other.different, other.values)
        return self.values >= other.values and self.different >= different
