"""Schema rules: what a dataset may be made of, and how its schema may change. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from readers.duckdb_memory import MAX_FIELDS, count_fields, nesting_depth
from readers.forms.refusals import child_place, find_refused, type_name
from readers.plain import plain_type
from readers.plain.types import NESTED, child_fields
from readers.stamps import is_date, is_time
from timestore.datasets import DatasetSpec, Evolution
from timestore.errors import TimestoreError, error
from timestore.names import PartitionKey
from writers.capacity import uncountable_place
from writers.widening import is_same, nullable_place, widens

MAX_SCHEMA_BYTES = 1 << 20  # of the IPC message, with all metadata
MAX_DEPTH = 32  # levels of nesting; Arrow reads batches of up to 63, and schemas of up to about 125


def check_schema(schema: pa.Schema, key: PartitionKey) -> None:
    """Refuse a schema that no dataset can have: size, names, types, and columns named like a part of the key.

    Raises ``schema_mismatch`` or ``type_unsupported``.
    """
    _check_size(schema)
    _check_texts(schema)
    _check_names(list(schema))
    _check_types(schema)
    columns = {field.name.lower(): field.name for field in schema}
    for name in key.names:
        if column := columns.get(name.lower()):
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


def _check_types(schema: pa.Schema) -> None:
    for field in schema:
        if refused := find_refused(field):
            raise error(
                "type_unsupported",
                f"column {field.name!r} cannot be stored: {refused.place!r} has the type {refused.type}; "
                f"{refused.reason}",
                details={"column": field.name, "place": refused.place, "type": refused.type},
            )


def _check_names(fields: Sequence[pa.Field]) -> None:
    """Refuse names of columns, and of the fields of structs inside them, that are missing or differ only in case."""
    _check_alike(fields, what="column", column=None, place="")
    for field in fields:
        _check_names_inside(field.type, column=field.name, place=field.name)


def _check_names_inside(type_: pa.DataType, *, column: str, place: str) -> None:
    if isinstance(type_, pa.BaseExtensionType):
        _check_names_inside(type_.storage_type, column=column, place=place)
    elif type_.id in (pa.lib.Type_DICTIONARY, pa.lib.Type_RUN_END_ENCODED):
        _check_names_inside(type_.value_type, column=column, place=place)
    elif type_.id in NESTED:
        fields = child_fields(type_)
        if type_.id == pa.lib.Type_STRUCT:
            _check_alike(fields, what="field", column=column, place=place)
        for position, child in enumerate(fields):
            inner = child_place(place, type_, child, position)
            _check_names_inside(child.type, column=column, place=inner)


def _check_alike(fields: Sequence[pa.Field], *, what: str, column: str | None, place: str) -> None:
    where = f" in {place!r}" if place else ""
    seen: dict[str, str] = {}
    for field in fields:
        details = {"column": column or field.name, "place": place or field.name}
        if not field.name or "\0" in field.name:
            raise _mismatch(
                f"a {what}'s name{where} is empty or has a NUL character; name every {what}",
                **details,
            )
        if twin := seen.get(field.name.lower()):
            alike = "are named alike" if twin == field.name else "differ only in case"
            raise _mismatch(
                f"the {what}s {twin!r} and {field.name!r}{where} {alike}; rename one",
                **details,
            )
        seen[field.name.lower()] = field.name


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
    """Return the dataset's field after a put; the dataset's own metadata stays, whatever the put's says."""
    if place := nullable_place(current, incoming):
        raise _mismatch(f"{place!r} is nullable in the put, but not null in the dataset", column=current.name)
    if is_same(current, incoming) or widens(incoming, current):
        if place := uncountable_place(current, incoming):
            raise _mismatch(
                f"{place!r} counts with a small integer in the dataset, and one row of the put may have more values; "
                "send it in the dataset's form",
                column=current.name,
            )
        return current
    if widens(current, incoming):
        return current.with_type(incoming.type)
    raise _mismatch(
        f"column {current.name!r} has the type {type_name(incoming.type)} in the put and {type_name(current.type)} in "
        f"the dataset; {_broken_rule(plain_type(current.type), plain_type(incoming.type))}",
        column=current.name,
        put_type=type_name(incoming.type),
        dataset_type=type_name(current.type),
    )


def _broken_rule(have: pa.DataType, sent: pa.DataType) -> str:
    if pa.types.is_timestamp(have) and pa.types.is_timestamp(sent) and have.tz != sent.tz:
        return "time zones count by their names, and none is not UTC: send the dataset's own"
    return "only lossless widening is allowed"


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
