"""Storage forms: which types are stored, and that they come back."""

import pyarrow as pa
import pytest

from readers.forms import storage_form

REFUSED = [
    pa.float16(),
    pa.decimal256(50, 2),
    pa.decimal128(5, -1),
    pa.sparse_union([pa.field("a", pa.int8())]),
    pa.dense_union([pa.field("a", pa.int8())]),
    pa.struct([]),
    pa.list_(pa.float16()),
    pa.struct([pa.field("a", pa.struct([]))]),
]


@pytest.mark.parametrize("data_type", REFUSED, ids=str)
def test_a_type_that_could_not_come_back_has_no_form(data_type: pa.DataType) -> None:
    """PROTOCOL 3 refuses these types, wherever in a nested type they are."""
    assert storage_form(data_type) is None


STAMPED = [pa.timestamp(unit, tz) for unit in ("s", "ms", "us", "ns") for tz in (None, "UTC", "+05:30")]


@pytest.mark.parametrize("data_type", [pa.int64(), pa.float64(), pa.bool_(), pa.string(), *STAMPED], ids=str)
def test_a_form_brings_its_type_back(data_type: pa.DataType) -> None:
    """What goes to storage and back has its type and its values, without a file between."""
    form = storage_form(data_type)
    assert form is not None
    for column in (pa.array([1, 0, None], pa.int64()).cast(data_type), pa.array([], data_type)):
        stored = form.to_storage(column)
        assert stored.type == form.stored_type
        restored = form.from_storage(stored)
        assert restored.type == data_type
        assert restored.equals(column)
