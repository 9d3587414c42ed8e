"""Hostile batches of every layout: whatever the bytes say, it is a refusal, never a crash and never a gigabyte."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from timestore.errors import TimestoreError
from writers.validation import check_arrow

LIMIT = 1 << 20
ONE = pa.array([1], pa.int8())


def _ints(*values: int, dtype: str = "<i4") -> bytes:
    return np.array(values, dtype).tobytes()


def _buffer(*values: int, dtype: str = "<i4") -> pa.Buffer:
    return pa.py_buffer(_ints(*values, dtype=dtype))


def _from_wire(good: pa.Array, old: bytes, new: bytes) -> pa.RecordBatch:
    """A batch that came over IPC, which checks little, with other bytes in its body."""
    batch = pa.record_batch([good], ["x"])
    message = batch.serialize().to_pybytes()
    assert message.count(old) == 1
    return pa.ipc.read_record_batch(pa.py_buffer(message.replace(old, new)), batch.schema)


def _of(array: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([array], ["x"])


def _dictionary(values: pa.Array, indices: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(indices, values, safe=False)


def _views(*fields: int, prefix: bytes = b"xxxx", data: bytes = b"x" * 40) -> pa.Array:
    """One view of (length, buffer, offset)."""
    length, index, offset = fields
    view = _ints(length) + prefix + _ints(index, offset)
    return pa.Array.from_buffers(pa.string_view(), 1, [None, pa.py_buffer(view), pa.py_buffer(data)])


def _list_view(start: int, length: int, *, valid: bool = True) -> pa.Array:
    bitmap = None if valid else pa.py_buffer(b"\0")
    return pa.Array.from_buffers(pa.list_view(ONE.type), 1, [bitmap, _buffer(start), _buffer(length)], children=[ONE])


def _large_list(values: pa.Array, length: int) -> pa.Array:
    return pa.Array.from_buffers(
        pa.large_list(values.type), 1, [None, _buffer(0, length, dtype="<i8")], children=[values]
    )


RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([1_111, 2_222], pa.int32()), pa.array([1, 2], pa.int8()))
LISTS = pa.array([[1] * 111, [2] * 222], pa.list_(pa.int8()))
MAPS = pa.array([[("a", 1)] * 1], pa.map_(pa.string(), pa.int8()))
BAD_OFFSETS = pa.Array.from_buffers(pa.string(), 2, [None, _buffer(0, 1_000_000, 2), pa.py_buffer(b"ab")])
BAD_TEXT = pa.Array.from_buffers(pa.string(), 2, [None, _buffer(0, 1, 2), pa.py_buffer(b"\xff\xfe")])
FIRST_TWO = pa.array([0, 1], pa.int8())
LATE = pa.array([86_400], pa.int32()).view(pa.time32("s"))
MANY_NULLS = pa.Array.from_buffers(pa.null(), 2**40, [None])
LONG_RUN = pa.RunEndEncodedArray.from_arrays(pa.array([2**62], pa.int64()), ONE)
DATES = pa.array([1, 2], pa.int64()).view(pa.date64())

INVALID: dict[str, Callable[[], pa.RecordBatch]] = {
    "index too large": lambda: _of(_dictionary(pa.array(["a"]), pa.array([0, 5], pa.int8()))),
    "index negative": lambda: _of(_dictionary(pa.array(["a"]), pa.array([0, -1], pa.int8()))),
    "index of 64 bits": lambda: _of(_dictionary(pa.array(["a"]), pa.array([0, 2**63], pa.uint64()))),
    "offsets in a dictionary": lambda: _of(_dictionary(BAD_OFFSETS, FIRST_TWO)),
    "text in a dictionary": lambda: _of(_dictionary(BAD_TEXT, FIRST_TWO)),
    "time in a dictionary": lambda: _of(_dictionary(LATE, pa.array([0], pa.int8()))),
    "offsets in an extension": lambda: _of(pa.ExtensionArray.from_storage(pa.json_(pa.string()), BAD_OFFSETS)),
    "offsets beside date64": lambda: _of(pa.StructArray.from_arrays([BAD_OFFSETS, DATES], names=["a", "b"])),
    "index beside date64": lambda: _of(_dictionary(DATES, pa.array([0, 9], pa.int8()))),
    "text in runs": lambda: _of(
        pa.Array.from_buffers(
            pa.run_end_encoded(pa.int32(), pa.string()), 2, [None], children=[pa.array([1, 2], pa.int32()), BAD_TEXT]
        )
    ),
    "run ends that fall": lambda: _from_wire(RUNS, _ints(1_111, 2_222), _ints(2_222, 1_111)),
    "run ends that stand": lambda: _from_wire(RUNS, _ints(1_111, 2_222), _ints(2_222, 2_222)),
    "run end zero": lambda: _from_wire(RUNS, _ints(1_111, 2_222), _ints(0, 2_222)),
    "run end negative": lambda: _from_wire(RUNS, _ints(1_111, 2_222), _ints(-5, 2_222)),
    "runs too short": lambda: _from_wire(RUNS, _ints(1_111, 2_222), _ints(1_111, 1_112)),
    "view of negative size": lambda: _of(_views(-1, 0, 0)),
    "view of another buffer": lambda: _of(_views(40, 7, 0)),
    "view of a negative buffer": lambda: _of(_views(40, -1, 0)),
    "view beyond its buffer": lambda: _of(_views(40, 0, 10)),
    "view before its buffer": lambda: _of(_views(40, 0, -3)),
    "view with another prefix": lambda: _of(_views(40, 0, 0, prefix=b"yyyy")),
    "view of no text": lambda: _of(_views(40, 0, 0, prefix=b"\xff" * 4, data=b"\xff" * 40)),
    "list view before its items": lambda: _of(_list_view(-1, 1)),
    "list view of negative size": lambda: _of(_list_view(0, -1)),
    "list view beyond its items": lambda: _of(_list_view(0, 5)),
    "list view that overflows": lambda: _of(_list_view(2**31 - 1, 2**31 - 1)),
    "list view under a null": lambda: _of(_list_view(99, 99, valid=False)),
    "list offsets that fall": lambda: _from_wire(LISTS, _ints(0, 111, 333), _ints(0, 500, 333)),
    "list offsets that begin below": lambda: _from_wire(LISTS, _ints(0, 111, 333), _ints(-7, 111, 333)),
    "list offsets beyond": lambda: _from_wire(LISTS, _ints(0, 111, 333), _ints(0, 111, 10**9)),
    "time beyond the day": lambda: _of(LATE),
    "decimal beyond its digits": lambda: _of(
        pa.Array.from_buffers(pa.decimal32(5, 2), 1, [None, pa.py_buffer(b"\x7f" * 4)])
    ),
}

TOO_LARGE: dict[str, Callable[[], pa.RecordBatch]] = {
    "nulls": lambda: _of(MANY_NULLS),
    "nulls in a list": lambda: _of(_large_list(MANY_NULLS, 2**40)),
    "runs in a list": lambda: _of(_large_list(LONG_RUN, 2**40)),
    "runs beside a list": lambda: _of(_large_list(LONG_RUN, 1)),
    "a text in a dictionary": lambda: _of(_dictionary(pa.array(["x" * 10_000]), pa.array([0] * 1_000, pa.int8()))),
    "a text in runs": lambda: _of(
        pa.RunEndEncodedArray.from_arrays(pa.array([1_000], pa.int32()), pa.array(["x" * 10_000]))
    ),
    "empty lists of a fixed size": lambda: _of(
        pa.Array.from_buffers(pa.list_(pa.int8(), 0), 2**40, [None], children=[pa.array([], pa.int8())])
    ),
    "empty binaries": lambda: _of(pa.Array.from_buffers(pa.binary(0), 2**40, [None, pa.py_buffer(b"")])),
    "fixed lists of nulls": lambda: _of(
        pa.Array.from_buffers(
            pa.list_(pa.null(), 2**31 - 1), 2, [None], children=[pa.Array.from_buffers(pa.null(), 2**32, [None])]
        )
    ),
}


@pytest.mark.parametrize("hostile", INVALID.values(), ids=INVALID)
def test_bytes_that_are_not_what_the_type_says_are_refused(hostile: Callable[[], pa.RecordBatch]) -> None:
    """Neither our own code nor DuckDB ever sees an index, an offset, an end or a text that is not valid."""
    with pytest.raises(TimestoreError) as caught:
        check_arrow(hostile(), rows_before=0, max_batch_bytes=LIMIT)
    assert caught.value.kind == "batch_invalid"


@pytest.mark.parametrize("hostile", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_few_bytes_that_stand_for_too_many_are_refused(hostile: Callable[[], pa.RecordBatch]) -> None:
    """What a batch takes once it is decoded counts, and is known without decoding it."""
    with pytest.raises(TimestoreError) as caught:
        check_arrow(hostile(), rows_before=0, max_batch_bytes=LIMIT)
    assert caught.value.kind == "batch_too_large"
    assert int(caught.value.details["limit"]) == LIMIT


def test_ipc_itself_refuses_null_keys() -> None:
    """A map with a null key aborts the process when pyarrow looks at it; its IPC reader is the first to refuse it."""
    entries = pa.StructArray.from_arrays([pa.array([None, "b"]), pa.array([1, 2], pa.int8())], names=["key", "value"])
    lists = _of(pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), entries))
    with pytest.raises(pa.ArrowInvalid, match="no nulls"):
        pa.ipc.read_record_batch(lists.serialize(), pa.schema([("x", MAPS.type)]))


def test_dates_that_are_no_whole_days_are_valid() -> None:
    """Arrow wants whole days of a date64; other instants come from Java, and are stored as they are."""
    check_arrow(_of(pa.array([5, None, -1], pa.int64()).view(pa.date64())), rows_before=0, max_batch_bytes=LIMIT)
    nested = pa.ListArray.from_arrays([0, 1], pa.array([5], pa.int64()).view(pa.date64()))
    for array in (nested, _dictionary(nested, pa.array([0], pa.int8()))):
        check_arrow(_of(array), rows_before=0, max_batch_bytes=LIMIT)
