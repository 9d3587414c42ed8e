"""The appends that the points of a measurement become: one, or one for each value of the dataset's key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from http_gateway.influx.measurement import LINE_COLUMN, STAMP_COLUMN, Points
from http_gateway.influx.write_request import WriteRequest
from timestore.datasets import CreateOptions, Dataset, Order
from timestore.descriptor import EndRule, PutDescriptor
from timestore.digest import PayloadDigest, fingerprint
from timestore.errors import error
from timestore.names import NO_KEY, PartitionKey, parse_dataset_name

NEW_TIMESTAMP_COLUMN = "time"
NEW_TIMESTAMP_TYPE = pa.timestamp("ns", "UTC")
MAX_KEYS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAppend:
    """One append: what says where its rows go, and the rows."""

    descriptor: PutDescriptor
    rows: pa.Table


def appends_of(points: Points, dataset: Dataset | None, request: WriteRequest, *, now_ns: int) -> Iterator[LineAppend]:
    """Yield the appends of a measurement; the dataset named so is None if it does not exist.

    Raises ``name_invalid``, ``schema_mismatch``, ``descriptor_invalid`` or ``batch_too_large``.
    """
    name = parse_dataset_name(points.measurement)
    key_tags = request.key_tags if request.key_tags is not None else (dataset and dataset.key_names) or ()
    _check_stamps(points, request)
    create = CreateOptions(timestamp_column=NEW_TIMESTAMP_COLUMN) if dataset is None else None
    for key, part in _by_key(points, key_tags):
        rows = _rows(part, key_tags, dataset, now_ns=now_ns)
        descriptor = PutDescriptor(
            dataset=name,
            key=key,
            idempotency_key=_idempotency_key(request.idempotency_key, key, rows),
            end=EndRule.EOF,  # the request has been read to its end
            expected_rows=rows.num_rows,
            create=create,
        )
        yield LineAppend(descriptor=descriptor, rows=rows)


def _check_stamps(points: Points, request: WriteRequest) -> None:
    """Refuse a promise that cannot be kept: a repetition would get other times than the first attempt."""
    stamps = points.columns.column(STAMP_COLUMN)
    if request.idempotency_key is not None and stamps.null_count:
        raise error(
            "descriptor_invalid",
            f"line {_first_line(points, stamps.is_null())} has no timestamp, and would get the server's time; with an "
            "Idempotency-Key every line needs one, or a request could not be told from its repetition",
        )


def _by_key(points: Points, key_tags: tuple[str, ...]) -> Iterator[tuple[PartitionKey, Points]]:
    """Split points by the values of some tags; the order of those of one key does not change."""
    if not key_tags:
        yield NO_KEY, points
        return
    columns = [_key_column(points, name).combine_chunks().dictionary_encode() for name in key_tags]
    codes = np.zeros(points.columns.num_rows, np.int64)
    for column in columns:
        _, codes = np.unique(codes * len(column.dictionary) + column.indices.to_numpy(), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    if len(groups) > MAX_KEYS:
        raise error(
            "batch_too_large",
            f"the lines of {points.measurement!r} have {len(groups)} values of the key {list(key_tags)}, and a request "
            f"may have {MAX_KEYS}; split it, or use tags with fewer values for the key",
            details={"limit": MAX_KEYS, "actual": len(groups)},
        )
    for rows in groups:
        first = int(rows[0])
        values = {name: column[first].as_py() for name, column in zip(key_tags, columns, strict=True)}
        part = Points(measurement=points.measurement, columns=points.columns.take(pa.array(rows)))
        yield PartitionKey.parse(values), part


def _key_column(points: Points, name: str) -> pa.ChunkedArray:
    column = points.tags.get(name)
    missing = column.is_null() if column is not None else pa.chunked_array([np.ones(points.columns.num_rows, bool)])
    if column is None or column.null_count:
        line = _first_line(points, missing)
        raise error(
            "schema_mismatch",
            f"line {line}, of the measurement {points.measurement!r}, has no tag {name!r}, a part of the dataset's key",
            details={"line": line, "column": name},
        )
    return column


def _rows(points: Points, key_tags: tuple[str, ...], dataset: Dataset | None, *, now_ns: int) -> pa.Table:
    """Return the rows: the timestamp, tags that are not in the key, and fields."""
    name, type_ = NEW_TIMESTAMP_COLUMN, NEW_TIMESTAMP_TYPE
    if dataset is not None:
        name = dataset.spec.timestamp_column
        type_ = dataset.schema.field(name).type
    points = _in_order(points, keep=dataset is not None and dataset.spec.order is Order.ANY, now_ns=now_ns)
    columns = {name: _timestamps(points, name, type_)}
    tags = {tag: column for tag, column in points.tags.items() if tag not in key_tags}
    for column_name, column in (*tags.items(), *points.fields.items()):
        if column_name in columns:
            raise error(
                "schema_mismatch",
                f"the measurement {points.measurement!r} has {column_name!r} twice, of tags, fields and the timestamp; "
                "rename one of them",
                details={"column": column_name},
            )
        columns[column_name] = column
    return pa.table({column_name: column.combine_chunks() for column_name, column in columns.items()})


def _in_order(points: Points, *, keep: bool, now_ns: int) -> Points:
    """Sort points by time, and those of one time by line: lines have no order of their own. ``keep`` sorts by line."""
    stamps = points.columns.column(STAMP_COLUMN).fill_null(now_ns)
    columns = points.columns.set_column(points.columns.schema.get_field_index(STAMP_COLUMN), STAMP_COLUMN, stamps)
    names = [LINE_COLUMN] if keep else [STAMP_COLUMN, LINE_COLUMN]
    return Points(measurement=points.measurement, columns=columns.sort_by([(name, "ascending") for name in names]))


def _timestamps(points: Points, name: str, type_: pa.DataType) -> pa.ChunkedArray:
    """Return the timestamps as the dataset has them; one that would lose digits is refused."""
    stamps = points.columns.column(STAMP_COLUMN).cast(pa.timestamp("ns", getattr(type_, "tz", None)))
    try:
        return stamps.cast(type_)
    except pa.ArrowInvalid:
        back = stamps.cast(type_, safe=False).cast(stamps.type, safe=False)
        line = _first_line(points, pc.not_equal(back, stamps))
        raise error(
            "schema_mismatch",
            f"the timestamp of line {line} does not fit the column {name!r} of {points.measurement!r}, which has the "
            f"type {type_}; send timestamps of that precision",
            details={"line": line, "column": name},
        ) from None


def _idempotency_key(given: str | None, key: PartitionKey, rows: pa.Table) -> str:
    """Name an append by what the client says, and else by what is in it: the same lines are the same append.

    Idempotency keys are unique in their dataset: several appends of one request need more than the one that is given.
    """
    if given is not None:
        return f"{given}/{xxhash.xxh3_128_hexdigest(str(key).encode())}" if key.parts else given
    digest = PayloadDigest(rows.schema)
    for batch in rows.to_batches():
        digest.update(batch)
    return f"lines:{fingerprint(key=key.as_dict(), schema=rows.schema, payload_digest=digest.finish())}"


def _first_line(points: Points, wrong: pa.ChunkedArray) -> int:
    line: int = pc.min(points.columns.column(LINE_COLUMN).filter(wrong)).as_py()
    return line
