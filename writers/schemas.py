"""Schema rules: what a dataset may be made of, and how its schema may change. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from readers.duckdb_memory import MAX_FIELDS, count_fields, nesting_depth
from readers.forms import storage_form
from readers.stamps import is_date, is_time
from timestore.datasets import DatasetSpec, Evolution
from timestore.errors import TimestoreError, error
from timestore.names import PartitionKey

MAX_SCHEMA_BYTES = 1 << 20  # of the IPC message, with all metadata
MAX_DEPTH = 32  # levels of nesting; Arrow reads batches of up to 63, and schemas of up to about 125

_SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
_UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
_UNITS = ["s", "ms", "us"]  # nanoseconds hold fewer years: not a widening
_PLAIN_OF = {pa.large_string(): pa.string()}


def check_schema(schema: pa.Schema, key: PartitionKey) -> None:
    """Refuse a schema that no dataset can have: size, names, types, and columns named like a part of the key.

    Raises ``schema_mismatch`` or ``type_unsupported``.
    """
    _check_size(schema)
    _check_texts(schema)
    names = schema.names
    if "" in names or any("\0" in name for name in names):
        raise _mismatch("a column's name is empty or has a NUL character; name every column", column="")
    seen: dict[str, str] = {}
    for field in schema:
        if twin := seen.get(field.name.lower()):
            alike = "are named alike" if twin == field.name else "differ only in case"
            raise _mismatch(f"the columns {twin!r} and {field.name!r} {alike}; rename one", column=field.name)
        seen[field.name.lower()] = field.name
        if storage_form(field.type) is None:
            raise error(
                "type_unsupported",
                f"column {field.name!r} has the type {field.type}, which cannot be stored; cast it before sending",
                details={"column": field.name, "type": field.type},
            )
    for name in key.names:
        if column := seen.get(name.lower()):
            raise _mismatch(
                f"column {column!r} has the name of the key part {name!r}; rename one of them", column=column
            )


def _check_size(schema: pa.Schema) -> None:
    """Refuse what every put of the dataset would have to read again, and DuckDB could not hold."""
    if (fields := count_fields(schema)) > MAX_FIELDS:
        raise _mismatch(
            f"the schema has {fields} fields, nested ones included; at most {MAX_FIELDS} are allowed: split it into "
            "several datasets",
            column="",
            fields=fields,
            limit=MAX_FIELDS,
        )
    if (depth := nesting_depth(schema)) > MAX_DEPTH:
        raise _mismatch(
            f"a column's type is nested {depth} levels deep, at most {MAX_DEPTH} are allowed; flatten it, or send the "
            "inner levels as text",
            column="",
            depth=depth,
            limit=MAX_DEPTH,
        )
    if (size := schema.serialize().size) > MAX_SCHEMA_BYTES:
        raise _mismatch(
            f"the schema takes {size} bytes as an Arrow IPC message, at most {MAX_SCHEMA_BYTES} are allowed; send less "
            "metadata or shorter names",
            column="",
            bytes=size,
            limit=MAX_SCHEMA_BYTES,
        )


def _check_texts(schema: pa.Schema) -> None:
    """Refuse names and zones that are not UTF-8: nothing between the client and here has looked at them."""
    for position, field in enumerate(schema):
        try:
            for text in _texts(field):
                text.encode()
        except UnicodeError as exc:
            raise _mismatch(
                f"a name or time zone in the column at position {position} is not valid UTF-8", column=str(position)
            ) from exc


def _texts(field: pa.Field) -> Iterator[str]:
    """Yield every name and zone of a field and of those inside it; raises ``UnicodeDecodeError``."""
    yield field.name
    yield (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    type_ = field.type
    if isinstance(type_, pa.BaseExtensionType):
        type_ = type_.storage_type
    if pa.types.is_dictionary(type_):
        yield from _texts(pa.field("", type_.value_type))
    if pa.types.is_timestamp(type_):
        yield type_.tz or ""
    for position in range(type_.num_fields):
        yield from _texts(type_.field(position))


def pick_timestamp_column(schema: pa.Schema, wanted: str | None) -> str:
    """Return the timestamp column: the one asked for, or the only one there is; raise ``schema_mismatch``.

    Dates serve only in a schema without timestamps: beside one, a date says less of when a row happened.
    """
    timestamps: list[str] = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    candidates = timestamps or [field.name for field in schema if is_date(field.type)]
    if wanted is not None:
        if schema.get_field_index(wanted) >= 0:
            _check_plain_time(schema.field(wanted))
        if wanted not in candidates:
            raise _mismatch(
                f"{wanted!r} cannot be the timestamp column; the candidates are {candidates}: timestamps, or dates "
                "in a schema without timestamps",
                column=wanted,
            )
        return wanted
    if not candidates:
        for field in schema:
            _check_plain_time(field)
        raise _mismatch("the schema has no timestamp and no date; a dataset needs a timestamp column", column="")
    if len(candidates) != 1:
        raise _mismatch(
            f"the timestamp column must be named (create.timestamp_column): the candidates are {candidates}", column=""
        )
    return candidates[0]


def merge_schemas(current: pa.Schema, incoming: pa.Schema, spec: DatasetSpec) -> pa.Schema:
    """Return the schema a dataset has after a put; the very object ``current`` if nothing changes.

    Columns match by name. New nullable columns are added and types widened without loss where the dataset's evolution
    allows. A nullable column that the put lacks is null in its rows. Raises ``schema_mismatch``.
    """
    _check_absent(current, incoming, spec)
    known = {field.name: field for field in current}
    lower = {field.name.lower(): field.name for field in current}
    changed = dict(known)
    for field in incoming:
        if field.name in known:
            changed[field.name] = _merge_field(known[field.name], field)
        elif twin := lower.get(field.name.lower()):
            raise _mismatch(
                f"column {field.name!r} differs only in case from the dataset's {twin!r}", column=field.name
            )
        elif not field.nullable:
            raise _mismatch(
                f"column {field.name!r} is new and declared not null, but older rows have no value; make it nullable",
                column=field.name,
            )
        else:
            changed[field.name] = field
    if changed == known:
        return current
    if spec.evolution is Evolution.NONE:
        names = [name for name, field in changed.items() if name not in known or known[name] != field]
        raise _mismatch(f"the dataset's schema may not change (evolution: none), but {names} differ", column=names[0])
    return pa.schema(list(changed.values()), metadata=current.metadata)


def _check_absent(current: pa.Schema, incoming: pa.Schema, spec: DatasetSpec) -> None:
    sent = set(incoming.names)
    if spec.timestamp_column not in sent:
        raise _mismatch(f"the timestamp column {spec.timestamp_column!r} is missing", column=spec.timestamp_column)
    _check_plain_time(incoming.field(spec.timestamp_column))
    for field in current:
        if field.name not in sent and not field.nullable:
            raise _mismatch(f"column {field.name!r} is missing, and it is declared not null", column=field.name)


def _check_plain_time(field: pa.Field) -> None:
    """Refuse an encoded time column as the timestamp column.

    Its values are looked at in every batch, and their bytes bound the rows that a batch can claim: a run-end-encoded
    column of one value can stand for 2^31 rows.
    """
    encoded = pa.types.is_dictionary(field.type) or pa.types.is_run_end_encoded(field.type)
    if encoded and is_time(field.type.value_type):
        raise _mismatch(
            f"the timestamp column {field.name!r} is encoded as {field.type}; send it as plain {field.type.value_type}",
            column=field.name,
        )


def _merge_field(current: pa.Field, incoming: pa.Field) -> pa.Field:
    if incoming.nullable and not current.nullable:
        raise _mismatch(
            f"column {current.name!r} is nullable in the put, but not null in the dataset", column=current.name
        )
    have, sent = _plain(current.type), _plain(incoming.type)
    if have == sent or _widens(sent, have):
        return current
    if _widens(have, sent):
        return current.with_type(incoming.type)
    raise _mismatch(
        f"column {current.name!r} has the type {incoming.type} in the put and {current.type} in the dataset; "
        f"{_broken_rule(have, sent)}",
        column=current.name,
        put_type=incoming.type,
        dataset_type=current.type,
    )


def _broken_rule(have: pa.DataType, sent: pa.DataType) -> str:
    if pa.types.is_timestamp(have) and pa.types.is_timestamp(sent) and have.tz != sent.tz:
        return "time zones count by their names, and none is not UTC: send the dataset's own"
    return "only lossless widening is allowed"


def _plain(type_: pa.DataType) -> pa.DataType:
    return _PLAIN_OF.get(type_, type_)


def _widens(narrow: pa.DataType, wide: pa.DataType) -> bool:
    """Say whether every value of ``narrow`` is one of ``wide``."""
    if pa.types.is_timestamp(narrow) and pa.types.is_timestamp(wide):
        return narrow.tz == wide.tz and _before(narrow.unit, wide.unit, _UNITS)
    if narrow in _UNSIGNED and wide in _SIGNED:
        return _UNSIGNED.index(narrow) < _SIGNED.index(wide)
    return (
        _before(narrow, wide, _SIGNED)
        or _before(narrow, wide, _UNSIGNED)
        or _before(narrow, wide, [pa.float32(), pa.float64()])
    )


def _before(narrow: object, wide: object, order: Sequence[object]) -> bool:
    return narrow in order and wide in order and order.index(narrow) < order.index(wide)


def _mismatch(message: str, *, column: str, **details: object) -> TimestoreError:
    return error("schema_mismatch", message, details={"column": column, **details})


def check_key_names(expected: Iterable[str], key: PartitionKey, dataset: str) -> None:
    """Refuse a key whose names are not the dataset's; raises ``schema_mismatch``."""
    if tuple(expected) != key.names:
        raise error(
            "schema_mismatch",
            f"the puts of {dataset!r} have the key names {list(expected)}, this one has {list(key.names)}",
            details={"expected": list(expected), "actual": list(key.names)},
        )
