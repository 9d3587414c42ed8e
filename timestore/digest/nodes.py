"""One node per value position of a logical type: a column, a list's items, a struct's field, a map's keys and values.

A node sees its values in order, in as many pieces as they arrive in. Each of its streams is a plain concatenation, so
where the pieces were cut leaves no trace. A null adds to the ``nulls`` stream alone; children see only what valid
parents hold. See docs/reference/payload-digest.md for the format.
"""

from abc import ABC, abstractmethod

import numpy as np
import pyarrow as pa
import xxhash

from timestore.digest.logical import Layout, LogicalType
from timestore.digest.selection import (
    Numbers,
    Selection,
    booleans,
    decoded,
    item_rows,
    numbers,
    portions,
    validity,
)

_LENGTH_LIMIT = 1 << 32  # a length is hashed as a uint32
_WIDE_OFFSETS = frozenset({pa.lib.Type_LARGE_LIST, pa.lib.Type_LARGE_STRING, pa.lib.Type_LARGE_BINARY})
_VIEWS = frozenset({pa.lib.Type_STRING_VIEW, pa.lib.Type_BINARY_VIEW})
_LIST_VIEW = pa.lib.Type_LIST_VIEW
_LARGE_LIST_VIEW = pa.lib.Type_LARGE_LIST_VIEW


def framed(text: str) -> bytes:
    """Return the text's UTF-8 bytes after their number, so that what follows cannot run into them."""
    data = text.encode()
    return counted(len(data)) + data


def counted(number: int) -> bytes:
    """Return a count as eight bytes, little endian."""
    return number.to_bytes(8, "little")


class Node(ABC):
    """The running digest of the values at one position of a logical type."""

    def __init__(self, logical: LogicalType) -> None:
        self._logical = logical
        self._count = 0
        self._streams: list[xxhash.xxh3_128] = []
        self._children = [node(child) for child in logical.children]

    @abstractmethod
    def update(self, array: pa.Array, rows: Selection = None) -> None:
        """Append the selected rows of a valid array of any form of this logical type."""

    def digest(self) -> bytes:
        """Return the 16 bytes (big endian, as the hex digits read) of everything appended so far."""
        parts = [framed(self._logical.text), counted(self._count)]
        parts += (stream.digest() for stream in self._streams)
        parts += (child.digest() for child in self._children)
        return xxhash.xxh3_128(b"".join(parts)).digest()

    def _stream(self) -> xxhash.xxh3_128:
        # The order in which streams are made is the order in which digest() names them.
        stream = xxhash.xxh3_128()
        self._streams.append(stream)
        return stream


class _Nulls(Node):
    """Values of the null type: nothing but their number."""

    def update(self, array: pa.Array, rows: Selection = None) -> None:
        array, rows = decoded(array, rows)
        self._count += len(array) if rows is None else len(rows)


class _Valued(Node):
    """Values that may be null one by one: the positions of the nulls, and what the layout makes of the others."""

    def __init__(self, logical: LogicalType) -> None:
        super().__init__(logical)
        self._nulls = self._stream()

    def update(self, array: pa.Array, rows: Selection = None) -> None:
        array, rows = decoded(array, rows)
        length = len(array) if rows is None else len(rows)
        valid = validity(array, rows)
        if valid is not None:
            self._nulls.update((np.flatnonzero(~valid).astype("<u8") + np.uint64(self._count)).data)
            rows = np.flatnonzero(valid) if rows is None else rows[valid]
        self._count += length
        if length if rows is None else len(rows):
            self._append(array, rows)

    @abstractmethod
    def _append(self, array: pa.Array, rows: Selection) -> None:
        """Append at least one row; all selected rows are valid, and the array is neither encoded nor an extension."""


class _Fixed(_Valued):
    """Numbers and all else of one width: the bytes of the values as they lie."""

    def __init__(self, logical: LogicalType) -> None:
        super().__init__(logical)
        self._values = self._stream()
        self._dtype = f"V{logical.size}"

    def _append(self, array: pa.Array, rows: Selection) -> None:
        if not self._logical.size:
            return
        values = numbers(array, self._dtype)
        self._values.update((values if rows is None else values.take(rows)).data)


class _Booleans(_Valued):
    """One byte per value: bits could not be concatenated without knowing where the last piece ended."""

    def __init__(self, logical: LogicalType) -> None:
        super().__init__(logical)
        self._values = self._stream()

    def _append(self, array: pa.Array, rows: Selection) -> None:
        values = booleans(array)
        self._values.update((values if rows is None else values.take(rows)).data)


class _Bytes(_Valued):
    """Strings and binaries: lengths in one stream, the bytes of all values on end in another."""

    def __init__(self, logical: LogicalType) -> None:
        super().__init__(logical)
        self._lengths = self._stream()
        self._values = self._stream()

    def _append(self, array: pa.Array, rows: Selection) -> None:
        if array.type.id in _VIEWS:
            self._append_views(array, rows)
            return
        offsets = _offsets(array)
        lengths = offsets[1:] - offsets[:-1]
        if rows is None:
            self._lengths.update(_uint32(lengths).data)
            self._append_span(array, offsets)
            return
        picked = lengths.take(rows)
        self._lengths.update(_uint32(picked).data)
        if _skips_nothing(rows, picked, offsets):
            self._append_span(array, offsets)
            return
        for part in portions(picked):
            self._append_gathered(array.take(pa.array(rows[part])))

    def _append_views(self, array: pa.Array, rows: Selection) -> None:
        views = numbers(array, "V16")
        views = views if rows is None else views.take(rows)
        lengths = views.view("<u4")[::4]
        self._lengths.update(np.ascontiguousarray(lengths).data)
        wide = pa.large_string() if array.type.id == pa.lib.Type_STRING_VIEW else pa.large_binary()
        for part in portions(lengths):
            buffers = [None, pa.py_buffer(views[part]), *array.buffers()[2:]]
            self._append_gathered(pa.Array.from_buffers(array.type, len(views[part]), buffers).cast(wide))

    def _append_gathered(self, array: pa.Array) -> None:
        self._append_span(array, _offsets(array))

    def _append_span(self, array: pa.Array, offsets: Numbers) -> None:
        data = array.buffers()[2]
        if data is not None:  # absent if every value is empty
            self._values.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])


def _skips_nothing(rows: Numbers, lengths: Numbers, offsets: Numbers) -> bool:
    """Tell whether the rows, left to right, hold all the bytes there are: usual with nulls, and saves the gather."""
    if len(rows) >= len(offsets) or int(lengths.sum(dtype="i8")) != int(offsets[-1]) - int(offsets[0]):
        return False
    return bool((rows[1:] > rows[:-1]).all())


class _Lists(_Valued):
    """Lists of any form: lengths, and the items of the valid lists as the child's values."""

    def __init__(self, logical: LogicalType) -> None:
        super().__init__(logical)
        self._lengths = self._stream()

    def _append(self, array: pa.Array, rows: Selection) -> None:
        starts, lengths = _extents(array)
        if rows is not None:
            starts, lengths = starts.take(rows), lengths.take(rows)
        self._lengths.update(_uint32(lengths).data)
        if rows is None and not _is_view(array):
            first, total = int(starts[0]), int(lengths.sum(dtype="i8"))
            self._append_items(array.values.slice(first, total), None)
            return
        for part in portions(lengths):
            self._append_items(array.values, item_rows(starts[part], lengths[part]))

    def _append_items(self, items: pa.Array, rows: Selection) -> None:
        self._children[0].update(items, rows)


class _Maps(_Lists):
    """Lists of pairs, with keys and values as two children."""

    def _append_items(self, items: pa.Array, rows: Selection) -> None:
        for position, child in enumerate(self._children):
            child.update(items.field(position), rows)


class _FixedLists(_Valued):
    """Lists of one length, which the type tells: only the items of the valid lists."""

    def _append(self, array: pa.Array, rows: Selection) -> None:
        size, (child,) = self._logical.size, self._children
        if rows is None:
            child.update(array.values.slice(array.offset * size, len(array) * size))
            return
        starts = (rows.astype("i8") + array.offset) * size
        child.update(array.values, (starts[:, np.newaxis] + np.arange(size)).ravel())


class _Structs(_Valued):
    """Only the fields' values in the valid rows."""

    def _append(self, array: pa.Array, rows: Selection) -> None:
        for position, child in enumerate(self._children):
            child.update(array.field(position), rows)


_NODES: dict[Layout, type[Node]] = {
    Layout.NULL: _Nulls,
    Layout.BOOL: _Booleans,
    Layout.FIXED: _Fixed,
    Layout.BYTES: _Bytes,
    Layout.LIST: _Lists,
    Layout.FIXED_LIST: _FixedLists,
    Layout.STRUCT: _Structs,
    Layout.MAP: _Maps,
}


def node(logical: LogicalType) -> Node:
    """Make the empty node of a logical type, with those of its children."""
    return _NODES[logical.layout](logical)


def _offsets(array: pa.Array) -> Numbers:
    return numbers(array, "<i8" if array.type.id in _WIDE_OFFSETS else "<i4", extra=1)


def _is_view(array: pa.Array) -> bool:
    return array.type.id in (_LIST_VIEW, _LARGE_LIST_VIEW)


def _extents(array: pa.Array) -> tuple[Numbers, Numbers]:
    """Return where each list starts in the child and how long it is."""
    if _is_view(array):
        dtype = "<i8" if array.type.id == _LARGE_LIST_VIEW else "<i4"
        return numbers(array, dtype), numbers(array, dtype, buffer=2)
    offsets = _offsets(array)
    return offsets[:-1], offsets[1:] - offsets[:-1]


def _uint32(lengths: Numbers) -> Numbers:
    if lengths.dtype.itemsize == 4:
        return np.ascontiguousarray(lengths)
    if int(lengths.max()) >= _LENGTH_LIMIT:
        raise ValueError("a value of 4 GiB, or a list of as many items, has no payload digest")
    return lengths.astype("<u4")
