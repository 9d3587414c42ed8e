"""Storability: a value that cannot be stored is refused by us, with its place and row, never by DuckDB later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from timestore.errors import InvalidInputError
from timestore.windows import UNITS_PER_SECOND
from writers.storability import StorableRows

INT64 = 2**63
NAN = float("nan")


def _check(*columns: pa.Array, field: pa.Field | None = None) -> None:
    """Check one column that arrives in several batches."""
    schema = pa.schema([field or pa.field("x", columns[0].type)])
    storable = StorableRows(schema)
    for column in columns:
        storable.plain(pa.record_batch([column], schema=schema))


def _refused(*columns: pa.Array, field: pa.Field | None = None) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        _check(*columns, field=field)
    return caught.value


def _stamps(values: Sequence[int | None], unit: str, zone: str | None) -> pa.Array:
    return pa.array(values, pa.int64()).view(pa.timestamp(unit, zone))


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_stamps_beyond_microseconds_are_refused(unit: str, zone: str | None) -> None:
    """Seconds and milliseconds must fit 64 bits of microseconds, or they could not be widened."""
    limit = INT64 * UNITS_PER_SECOND[unit] // 10**6
    _check(_stamps([0, None, limit - 1, -limit + 1], unit, zone))
    for value in (limit + 1, -limit - 1, INT64 - 1, -INT64):
        refusal = _refused(_stamps([0] * 7, unit, zone), _stamps([None, 0, 0, value, 0, value], unit, zone))
        assert refusal.kind == "value_not_storable"
        assert refusal.details == {"row": "10", "column": "x", "place": "x"}


def test_the_limit_holds_at_every_depth() -> None:
    """The same inside lists, structs and maps, also when they are encoded; what a null parent hides does not count."""
    too_late = _stamps([INT64 - 1], "s", None)
    struct = pa.StructArray.from_arrays([too_late], names=["when"])
    nested = pa.ListArray.from_arrays([0, 1], struct)
    assert _refused(nested).details["place"] == "x[].when"
    encoded = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int8()), nested)
    assert _refused(encoded).details == {"row": "0", "column": "x", "place": "x[].when"}
    hidden = pa.StructArray.from_arrays([too_late], names=["when"], mask=pa.array([True]))
    _check(hidden)
    _check(pa.ListArray.from_arrays([0, 1], struct, mask=pa.array([True])))


def _maps(keys: pa.Array, lengths: list[int], valid: list[bool] | None = None) -> pa.Array:
    """Maps from these keys to their numbers."""
    items = pa.array(range(len(keys)), pa.int32())
    type_ = pa.map_(keys.type, items.type)
    entries = pa.StructArray.from_arrays([keys, items], fields=[type_.key_field, type_.item_field])
    offsets = pa.py_buffer(np.cumsum([0, *lengths]).astype(np.int32))
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(type_, len(lengths), [bitmap, offsets], children=[entries])


TWICE: list[tuple[str, Any]] = [
    ("texts", pa.array(["a", "b", "a"])),
    ("numbers", pa.array([1, 2, 1], pa.uint8())),
    ("zeros", pa.array([0.0, 1.0, -0.0])),
    ("nans", pa.array([NAN, 1.0, -NAN], pa.float32())),
    ("flags", pa.array([True, False, True])),
    ("structs", pa.array([{"a": 1, "b": None}, {"a": 1, "b": "x"}, {"a": 1, "b": None}])),
    ("lists", pa.array([[1], [1, 1], [1]])),
    ("maps", pa.array([[("a", 1)], [], [("a", 1)]], pa.map_(pa.string(), pa.int8()))),
    ("dictionary", pa.DictionaryArray.from_arrays(pa.array([0, 2, 1], pa.int8()), pa.array(["a", "a", "b"]))),
    ("decimals", pa.array([1, 2, 1], pa.decimal64(18, 2))),
    ("fixed lists", pa.array([[1, 2], [2, 1], [1, 2]], pa.list_(pa.int8(), 2))),
    ("intervals", pa.array([(1, 2, 3), (1, 2, 4), (1, 2, 3)], pa.month_day_nano_interval())),
    ("nothings", pa.array([b"", b"", b""], pa.binary(0))),
]


@pytest.mark.parametrize("keys", [keys for _, keys in TWICE], ids=[name for name, _ in TWICE])
def test_a_map_with_a_key_twice_is_refused(keys: pa.Array) -> None:
    """DuckDB's maps have each key once, so the row is refused before anything lands; other maps may have it too."""
    refusal = _refused(_maps(keys.slice(0, 2), [1, 1]), _maps(keys, [0, 0, 3]))
    assert refusal.kind == "value_not_storable"
    assert refusal.details == {"row": "4", "column": "x", "place": "x"}
    _check(_maps(keys, [1, 1, 1]))


def test_keys_of_null_maps_do_not_count() -> None:
    """What lies under a null is nothing."""
    keys = pa.array(["a", "a", "b"])
    _check(_maps(keys, [2, 1], valid=[False, True]))
    nested = pa.ListArray.from_arrays([0, 1, 2], _maps(keys, [2, 1]), mask=pa.array([True, False]))
    _check(nested)
    assert _refused(pa.ListArray.from_arrays([0, 1, 2], _maps(keys, [2, 1]))).details["place"] == "x[]"


def test_a_null_key_in_a_dictionary_is_refused() -> None:
    """Arrow sees no null in an index that names one; DuckDB's maps have no null keys."""
    keys = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["a", None]))
    refusal = _refused(_maps(keys, [1, 1]))
    assert refusal.kind == "value_not_storable"
    assert refusal.details["row"] == "1"


def test_places_that_are_not_null_have_no_nulls() -> None:
    """Arrow does not enforce ``nullable=False``; Timestore does, at every depth and in every encoding."""
    numbers = pa.array([1, None])
    strict = pa.field("n", pa.int64(), nullable=False)
    assert _refused(numbers, field=pa.field("x", pa.int64(), nullable=False)).kind == "batch_invalid"
    dictionary = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array(["a", None]))
    assert _refused(dictionary, field=pa.field("x", dictionary.type, nullable=False)).details["row"] == "0"
    struct = pa.StructArray.from_arrays([numbers], fields=[strict])
    assert _refused(struct).details == {"row": "1", "column": "x", "place": "x.n"}
    _check(pa.StructArray.from_arrays([numbers], fields=[strict], mask=pa.array([False, True])))
    items = pa.ListArray.from_arrays([0, 1, 2], numbers).cast(pa.list_(strict))
    assert _refused(items).details["place"] == "x[]"


def test_the_first_offending_row_is_found_among_many() -> None:
    """However long a batch is, the message names the first row that cannot be stored."""
    values = np.zeros(100_000, np.int64)
    values[[70_001, 80_000]] = INT64 - 1
    assert _refused(pa.array(values).view(pa.timestamp("ms"))).details["row"] == "70001"
