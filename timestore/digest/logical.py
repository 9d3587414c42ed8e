"""Logical types: the type of a column once its encoding is taken off, with the one text that names it.

The texts are part of the digest's format. They are injective: every name and zone inside them is length-prefixed
(``<bytes of UTF-8>:<text>``), so no name can imitate syntax.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

import pyarrow as pa

_EXTENSION_NAME = b"ARROW:extension:name"


class Layout(Enum):
    """How values of a logical type are hashed; each has one node class in ``nodes``."""

    NULL = auto()
    BOOL = auto()
    FIXED = auto()
    BYTES = auto()
    LIST = auto()
    FIXED_LIST = auto()
    STRUCT = auto()
    MAP = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalType:
    """A plain type: its canonical text, its layout, and the types of its children in order.

    ``size`` is the width in bytes of a FIXED value, the number of items of a FIXED_LIST, and 0 for the others.
    """

    text: str
    layout: Layout
    size: int = 0
    children: tuple["LogicalType", ...] = ()


def _fixed(text: str, size: int) -> LogicalType:
    return LogicalType(text=text, layout=Layout.FIXED, size=size)


_STRING = LogicalType(text="string", layout=Layout.BYTES)
_BINARY = LogicalType(text="binary", layout=Layout.BYTES)

# The types without parameters, looked up before anything else is asked: small puts spend their time on schemas.
_SIMPLE = {
    pa.null().id: LogicalType(text="null", layout=Layout.NULL),
    pa.bool_().id: LogicalType(text="bool", layout=Layout.BOOL),
    pa.int8().id: _fixed("int8", 1),
    pa.int16().id: _fixed("int16", 2),
    pa.int32().id: _fixed("int32", 4),
    pa.int64().id: _fixed("int64", 8),
    pa.uint8().id: _fixed("uint8", 1),
    pa.uint16().id: _fixed("uint16", 2),
    pa.uint32().id: _fixed("uint32", 4),
    pa.uint64().id: _fixed("uint64", 8),
    pa.float16().id: _fixed("float16", 2),
    pa.float32().id: _fixed("float32", 4),
    pa.float64().id: _fixed("float64", 8),
    pa.date32().id: _fixed("date32", 4),
    pa.date64().id: _fixed("date64", 8),
    pa.month_day_nano_interval().id: _fixed("interval[month_day_nano]", 16),
    pa.string().id: _STRING,
    pa.large_string().id: _STRING,
    pa.string_view().id: _STRING,
    pa.binary().id: _BINARY,
    pa.large_binary().id: _BINARY,
    pa.binary_view().id: _BINARY,
}
_UNITS = {
    pa.time32("s").id: "time32",
    pa.time64("us").id: "time64",
    pa.duration("s").id: "duration",
}
_DECIMALS = {
    pa.decimal32(1).id: "decimal32",
    pa.decimal64(1).id: "decimal64",
    pa.decimal128(1).id: "decimal128",
    pa.decimal256(1).id: "decimal256",
}
_LISTS = frozenset(
    make(pa.null()).id for make in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)
)  # all of them count as list
_NESTED = frozenset({pa.lib.Type_FIXED_SIZE_LIST, pa.lib.Type_STRUCT, pa.lib.Type_MAP}) | _LISTS


def logical_schema(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return (column name, logical type text) of every column, sorted by the UTF-8 bytes of the name.

    Raise TypeError for a type that has no digest (unions, the two interval types that pyarrow cannot read).
    """
    return sorted((field.name, logical_type(field).text) for field in schema)


def logical_type(field: pa.Field) -> LogicalType:
    """Return the logical type of a field; raise TypeError if it has none.

    An extension that this process has not registered arrives as its storage type and a key in the field's metadata. It
    gets the same text as a registered one, or a digest would change whenever a library learns an extension.
    """
    plain = _plain(field.type)
    name = (field.metadata or {}).get(_EXTENSION_NAME)
    if name is None or isinstance(field.type, pa.BaseExtensionType):
        return plain
    return _extension(name.decode(), plain)


def _plain(data_type: pa.DataType) -> LogicalType:
    kind = data_type.id
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(data_type, pa.BaseExtensionType):
        return _extension(data_type.extension_name, _plain(data_type.storage_type))
    if kind == pa.lib.Type_DICTIONARY:
        return _plain(data_type.value_type)
    if kind == pa.lib.Type_RUN_END_ENCODED:
        return logical_type(data_type.field(1))  # the first is the run ends
    if kind in _NESTED:
        return _nested(data_type)
    return _fixed(_parametric(data_type), data_type.bit_width // 8)


def _extension(name: str, storage: LogicalType) -> LogicalType:
    return replace(storage, text=f"extension<{_named(name)},{storage.text}>")


def _parametric(data_type: pa.DataType) -> str:
    kind = data_type.id
    if kind in _UNITS:
        return f"{_UNITS[kind]}[{data_type.unit}]"
    if kind in _DECIMALS:
        return f"{_DECIMALS[kind]}[{data_type.precision},{data_type.scale}]"
    if kind == pa.lib.Type_TIMESTAMP:
        zone = f",{_named(data_type.tz)}" if data_type.tz else ""
        return f"timestamp[{data_type.unit}{zone}]"
    if kind == pa.lib.Type_FIXED_SIZE_BINARY:
        return f"fixed_size_binary[{data_type.byte_width}]"
    raise TypeError(f"no payload digest is defined for values of type {data_type}")


def _nested(data_type: pa.DataType) -> LogicalType:
    kind = data_type.id
    if kind == pa.lib.Type_STRUCT:
        return _struct([data_type.field(i) for i in range(data_type.num_fields)])
    if kind == pa.lib.Type_MAP:
        key, item = logical_type(data_type.key_field), logical_type(data_type.item_field)
        return LogicalType(text=f"map<{key.text},{item.text}>", layout=Layout.MAP, children=(key, item))
    value = logical_type(data_type.value_field)
    if kind in _LISTS:
        return LogicalType(text=f"list<{value.text}>", layout=Layout.LIST, children=(value,))
    size = data_type.list_size
    text = f"fixed_size_list[{size}]<{value.text}>"
    return LogicalType(text=text, layout=Layout.FIXED_LIST, size=size, children=(value,))


def _struct(fields: list[pa.Field]) -> LogicalType:
    children = tuple(logical_type(field) for field in fields)
    parts = (f"{_named(field.name)}={child.text}" for field, child in zip(fields, children, strict=True))
    return LogicalType(text=f"struct<{','.join(parts)}>", layout=Layout.STRUCT, children=children)


def _named(text: str) -> str:
    return f"{len(text.encode())}:{text}"
