"""What callers have their rows in, as record batches: of one schema, of a sensible size, sent again if that can be.

pandas and polars are recognised without being imported: who has such a frame has imported them already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from timestore.errors import error

BATCH_ROWS = 65_536  # messages of 8 to 128 Ki rows travel fastest
BATCH_BYTES = 8 << 20  # far below what any server refuses; a single row may be larger
_SPLITS = 1.5  # halves that together have more bytes than this share: what is large does not go by rows


class Payload:
    """Rows to append. Iterating gives their batches; ``can_be_sent`` says whether that works (again)."""

    def __init__(self, schema: pa.Schema, source: Callable[[], Iterable[pa.RecordBatch]], *, one_shot: bool) -> None:
        self.schema = schema
        self._source = source
        self._one_shot = one_shot
        self._begun = False

    @property
    def can_be_sent(self) -> bool:
        """Return False once a source that can be read only once was touched."""
        return not (self._one_shot and self._begun)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        self._begun = True
        for batch in self._source():
            yield from cut(batch)


def payload_of(data: Any) -> Payload:
    """Take a caller's data; raises ``TypeError`` for what has no rows in it, or ``schema_mismatch``."""
    match data:
        case Payload():
            return data
        case pa.RecordBatchReader():
            return Payload(data.schema, lambda: data, one_shot=True)
        case pa.RecordBatch():
            return Payload(data.schema, lambda: [data], one_shot=False)
        case pa.Table():
            return Payload(data.schema, data.to_batches, one_shot=False)
    if _is_frame(data, "pandas"):
        return payload_of(_table_from_pandas(data))
    if hasattr(data, "__arrow_c_stream__"):
        return _from_stream(data)
    if hasattr(data, "__arrow_c_array__"):
        return payload_of(pa.record_batch(data))
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | dict):
        return _from_iterable(data)
    raise TypeError(
        f"{type(data).__name__} cannot be appended: give a pyarrow table, record batch or reader, a pandas or polars "
        "frame, an iterable of them, or anything with __arrow_c_stream__"
    )


def cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into messages: of ``BATCH_ROWS`` and about ``BATCH_BYTES`` at most, unless one row has more."""
    if batch.num_rows <= BATCH_ROWS and batch.nbytes <= BATCH_BYTES:
        yield batch
        return
    for start in range(0, batch.num_rows, BATCH_ROWS):
        yield from _cut_by_bytes(_compact(batch.slice(start, BATCH_ROWS)))


def _cut_by_bytes(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    size, rows = batch.nbytes, batch.num_rows
    if size <= BATCH_BYTES or rows < 2:
        yield batch
        return
    halves = _compact(batch.slice(0, rows // 2)), _compact(batch.slice(rows // 2))
    if sum(half.nbytes for half in halves) > size * _SPLITS:
        yield batch  # a large dictionary is sent once, however many batches share it
        return
    for half in halves:
        yield from _cut_by_bytes(half)


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Let views keep only what they show: every slice of them would carry the text of all rows."""
    arrays = [_compact_view(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _compact_view(column: pa.Array) -> pa.Array:
    if column.type == pa.string_view():
        return column.cast(pa.large_string()).cast(pa.string_view())
    if column.type == pa.binary_view():
        return column.cast(pa.large_binary()).cast(pa.binary_view())
    return column


def _from_stream(data: Any) -> Payload:
    """Take an exporter of streams. Only polars frames are known to give the same rows in the same order again."""
    if _is_frame(data, "polars"):
        schema = pa.RecordBatchReader.from_stream(data).schema
        return Payload(schema, lambda: pa.RecordBatchReader.from_stream(data), one_shot=False)
    return payload_of(pa.RecordBatchReader.from_stream(data))


def _from_iterable(items: Iterable[Any]) -> Payload:
    """Take batches, tables or frames of one schema. Only a list of what stays there can be read again."""
    repeatable = isinstance(items, list | tuple) and all(_stays(item) for item in items)
    iterator = iter(items)
    try:
        first = payload_of(next(iterator))
    except StopIteration:
        raise error(
            "schema_mismatch", "an iterable without any batch has no schema; give a table of no rows instead"
        ) from None

    def source() -> Iterator[pa.RecordBatch]:
        yield from first
        rest = islice(items, 1, None) if repeatable else iterator
        for place, item in enumerate(rest, start=1):
            yield from _like(payload_of(item), first.schema, place)

    return Payload(first.schema, source, one_shot=not repeatable)


def _stays(item: Any) -> bool:
    return isinstance(item, pa.Table | pa.RecordBatch) or _is_frame(item, "pandas") or _is_frame(item, "polars")


def _like(payload: Payload, schema: pa.Schema, place: int) -> Payload:
    if not payload.schema.equals(schema):
        raise error(
            "schema_mismatch",
            f"item {place} of the data has the schema {payload.schema.to_string()!r}, the first one has "
            f"{schema.to_string()!r}; all must be alike",
        )
    return payload


def _is_frame(data: Any, library: str) -> bool:
    kind = type(data)
    return kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == library


def _table_from_pandas(frame: Any) -> pa.Table:
    """Take a frame's columns. Its index is no column: one that says something is refused, not dropped.

    The metadata in which pandas describes itself stays here: it belongs to the frame, not to a dataset.
    """
    index = frame.index
    if type(index).__name__ != "RangeIndex" or index.name is not None:
        raise error(
            "schema_mismatch",
            f"the frame has an index ({', '.join(str(name) for name in index.names)}) that would be lost: make it a "
            "column by reset_index(), or leave it out by reset_index(drop=True)",
        )
    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {name: value for name, value in (table.schema.metadata or {}).items() if name != b"pandas"}
    return table.replace_schema_metadata(metadata or None)
