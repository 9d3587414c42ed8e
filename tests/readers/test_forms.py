"""Storage forms: which types are stored, and how stamps are read from Arrow's memory."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readers.forms import storage_form, timestamp_values

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
    column = pa.chunked_array([pa.array([1, 0, None], pa.int64()).cast(data_type), pa.array([], data_type)])
    stored = form.to_storage(column).combine_chunks()
    restored = form.from_storage(stored)
    assert restored.type == data_type
    assert restored.equals(column.combine_chunks())


@settings(deadline=None)
@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    cut=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_stamps_are_read_without_a_copy(values: list[int], unit: str, cut: tuple[int, int]) -> None:
    """The integers of any slice of a timestamp column are read as they lie."""
    start, length = cut
    column = pa.array(values, pa.int64()).view(pa.timestamp(unit)).slice(start, length)
    stamps = timestamp_values(column)
    assert stamps.dtype == np.int64
    assert stamps.tolist() == values[start : start + length]
    assert not len(stamps) or not stamps.flags.owndata


def test_an_empty_column_has_no_stamps() -> None:
    """Batches without rows are legal, and may come without any buffer."""
    empty = pa.record_batch({"ts": pa.array([], pa.timestamp("us"))})
    sent = pa.ipc.read_record_batch(empty.serialize(), empty.schema)
    assert timestamp_values(sent.column(0)).tolist() == []
    assert timestamp_values(pa.Array.from_buffers(pa.timestamp("us"), 0, [None, None])).tolist() == []
