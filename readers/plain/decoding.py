"""From the forms in which columns are sent to plain ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from readers.plain.assembling import Offsets, Opened, assemble
from readers.plain.types import LIST_VIEWS, NESTED, VIEWS, child_fields, is_plain, plain_schema, plain_type
from timestore.digest.selection import Numbers, Selection, decoded, item_rows, numbers, validity


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows of a valid batch in plain columns. Columns that are plain stay as they are, without a copy.

    They take what ``plain_bytes`` says: whoever calls this has looked at that before. Raises ``NullKeyError`` for a map
    that has a null key once it is decoded.
    """
    if all(is_plain(field.type) for field in batch.schema):
        return batch
    return pa.RecordBatch.from_arrays([decode(column) for column in batch.columns], schema=plain_schema(batch.schema))


def take_batch(batch: pa.RecordBatch, rows: Numbers) -> pa.RecordBatch:
    """Return some rows of a plain batch."""
    return pa.RecordBatch.from_arrays([take_rows(column, rows) for column in batch.columns], schema=batch.schema)


def take_rows(array: pa.Array, rows: Numbers) -> pa.Array:
    """Return some rows of a plain array; a negative number takes a null."""
    return decode(array, rows)


def decode(array: pa.Array, rows: Selection = None) -> pa.Array:
    """Return the selected rows of a valid array as a plain one."""
    type_ = plain_type(array.type)
    array, rows = decoded(array, rows)
    if array.type.id in VIEWS:
        return _decode_view(array, rows)
    if is_plain(array.type):
        if rows is None:
            return array
        if not _is_mistaken(array.type):
            missing = rows < 0
            return array.take(pa.array(rows, mask=missing if missing.any() else None))
    if array.type.id == pa.lib.Type_STRUCT:
        return _decode_struct(array, rows, type_)
    if array.type.id == pa.lib.Type_FIXED_SIZE_LIST:
        return _decode_fixed_list(array, rows, type_)
    return _decode_list(array, rows, type_)


def _is_mistaken(type_: pa.DataType) -> bool:
    """Say whether pyarrow's ``take`` and ``filter`` give other values than they should.

    They forget offsets where lists of a fixed size have items that are such lists (26.0.1), and read beyond buffers.
    """
    if type_.id not in NESTED:
        return False
    inner = [field.type for field in child_fields(type_)]
    fixed = pa.lib.Type_FIXED_SIZE_LIST
    return (type_.id == fixed and inner[0].id == fixed) or any(_is_mistaken(child) for child in inner)


def _decode_view(array: pa.Array, rows: Selection) -> pa.Array:
    type_ = VIEWS[array.type.id]
    if rows is None:
        return array.cast(type_)
    valid = validity(array, rows)
    picked = rows if valid is None else np.where(valid, rows, 0)
    views = numbers(array, "V16").take(picked) if len(array) else np.zeros(len(rows), "V16")
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    if valid is not None:
        views[~valid] = np.zeros(1, "V16")
    buffers = [bitmap, pa.py_buffer(views), *array.buffers()[2:]]
    return pa.Array.from_buffers(array.type, len(rows), buffers).cast(type_)


def _decode_struct(array: pa.Array, rows: Selection, type_: pa.DataType) -> pa.Array:
    children = [decode(array.field(position), rows) for position in range(array.type.num_fields)]
    count = len(array) if rows is None else len(rows)
    opened = Opened(rows=count, valid=validity(array, rows), offsets=None, children=children)
    return assemble(type_, opened, children)


def _decode_fixed_list(array: pa.Array, rows: Selection, type_: pa.DataType) -> pa.Array:
    """Decode the items of the selected lists; null lists have null items."""
    valid = validity(array, rows)
    picked = np.arange(len(array)) if rows is None else rows.astype(np.int64)
    size = type_.list_size
    items = ((picked + array.offset) * size)[:, np.newaxis] + np.arange(size)
    if valid is not None:
        items[~valid] = -1
    children = [decode(array.values, items.ravel())]
    return assemble(type_, Opened(rows=len(picked), valid=valid, offsets=None, children=children), children)


def _decode_list(array: pa.Array, rows: Selection, type_: pa.DataType) -> pa.Array:
    """Decode what the selected valid lists hold."""
    valid = validity(array, rows)
    picked = np.arange(len(array)) if rows is None else rows.astype(np.int64)  # an index may be unsigned
    starts, lengths = _extents(array, picked if valid is None else picked[valid])
    items = item_rows(starts, lengths)
    values = [array.keys, array.items] if array.type.id == pa.lib.Type_MAP else [array.values]
    children = [decode(child, items) for child in values]
    counts = np.zeros(len(picked), np.int64)
    counts[slice(None) if valid is None else valid] = lengths
    offsets = np.concatenate(([0], np.cumsum(counts)))
    return assemble(type_, Opened(rows=len(picked), valid=valid, offsets=offsets, children=children), children)


def _extents(array: pa.Array, rows: Offsets) -> tuple[Offsets, Offsets]:
    """Return where the lists of some rows start in the child, and how long they are."""
    if not len(rows):
        return rows, rows
    wide = array.type.id in (pa.lib.Type_LARGE_LIST, pa.lib.Type_LARGE_LIST_VIEW)
    dtype = "<i8" if wide else "<i4"
    if array.type.id in LIST_VIEWS:
        starts, lengths = numbers(array, dtype), numbers(array, dtype, buffer=2)
        return starts.take(rows).astype(np.int64), lengths.take(rows).astype(np.int64)
    offsets = numbers(array, dtype, extra=1).astype(np.int64)
    return offsets.take(rows), np.diff(offsets).take(rows)
