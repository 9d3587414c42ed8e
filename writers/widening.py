"""How the types of a dataset's column and a put's compare: the same, one wider than the other, or neither."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from readers.forms.refusals import child_place
from readers.plain import plain_type
from readers.plain.types import NESTED, child_fields, extension_name
from timestore.digest.logical import logical_type

_EXTENSION_METADATA = b"ARROW:extension:metadata"
_SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
_UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
_FLOATS = [pa.float32(), pa.float64()]
_UNITS = ["s", "ms", "us"]  # nanoseconds hold fewer years: not a widening


def is_same(have: pa.Field, sent: pa.Field) -> bool:
    """Say whether two fields hold the same values, each in its own form, at every depth.

    Dictionaries, runs, views, large forms and the names of list items make no difference; the names and parameters of
    extension types do.
    """
    if logical_type(have).text != logical_type(sent).text:
        return False
    pairs = zip(_parameters(have), _parameters(sent), strict=True)
    return all(type(one) is not type(other) or one == other for one, other in pairs)


def widens(narrow: pa.Field, wide: pa.Field) -> bool:
    """Say whether every value of one field is one of the other, wider one. Nested types and extensions never widen."""
    if extension_name(narrow) or extension_name(wide):
        return False
    return _type_widens(plain_type(narrow.type), plain_type(wide.type))


def nullable_place(have: pa.Field, sent: pa.Field) -> str | None:
    """Return a place where a put may have nulls that the dataset does not allow; None if there is none."""
    return next(_nullable_places(have, sent, have.name), None)


def _nullable_places(have: pa.Field, sent: pa.Field, place: str) -> Iterator[str]:
    if sent.nullable and not have.nullable:
        yield place
    one, other = plain_type(have.type), plain_type(sent.type)
    if one.id in NESTED and other.id in NESTED:
        for position, (mine, theirs) in enumerate(zip(child_fields(one), child_fields(other), strict=False)):
            yield from _nullable_places(mine, theirs, child_place(place, one, mine, position))


def _parameters(field: pa.Field) -> Iterator[object]:
    """Yield the parameters of every extension in a field, in order: bytes of those that are not known here."""
    type_ = field.type
    if not isinstance(type_, pa.BaseExtensionType) and extension_name(field):
        yield (field.metadata or {}).get(_EXTENSION_METADATA, b"")
    while True:
        if isinstance(type_, pa.BaseExtensionType):
            yield _known_parameters(type_)
            type_ = type_.storage_type
        elif type_.id in (pa.lib.Type_DICTIONARY, pa.lib.Type_RUN_END_ENCODED):
            type_ = type_.value_type
        else:
            break
    if type_.id in NESTED:
        for child in child_fields(type_):
            yield from _parameters(child)


def _known_parameters(type_: pa.BaseExtensionType) -> tuple[object, ...]:
    if isinstance(type_, pa.OpaqueType):
        return type_.type_name, type_.vendor_name
    if isinstance(type_, pa.FixedShapeTensorType):
        return tuple(map(str, (type_.shape, type_.dim_names, type_.permutation)))
    return (type_.__arrow_ext_serialize__(),) if isinstance(type_, pa.ExtensionType) else ()


def _type_widens(narrow: pa.DataType, wide: pa.DataType) -> bool:
    if pa.types.is_timestamp(narrow) and pa.types.is_timestamp(wide):
        return narrow.tz == wide.tz and _before(narrow.unit, wide.unit, _UNITS)
    if pa.types.is_decimal(narrow) and pa.types.is_decimal(wide):
        return bool(narrow.scale == wide.scale and narrow.precision <= wide.precision)
    if narrow in _UNSIGNED and wide in _SIGNED:
        return _UNSIGNED.index(narrow) < _SIGNED.index(wide)
    return any(_before(narrow, wide, family) for family in (_SIGNED, _UNSIGNED, _FLOATS))


def _before(narrow: object, wide: object, order: Sequence[object]) -> bool:
    return narrow in order and wide in order and order.index(narrow) < order.index(wide)
