"""Plain columns: encodings come off and go on again, and what they would take is known before."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readers.plain import encoded_batches, is_plain, plain_batch, plain_schema, plain_type, reshape, take_batch
from readers.plain.identity import first_rows, value_codes
from readers.plain.sizes import TooLongError, plain_bytes
from tests.fixtures.arrow_values import SCHEMAS, TYPES, assert_same, digest_of, random_array, random_batches
from tests.fixtures.fuzzing import examples


def _batch(array: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([array], ["x"])


def _dictionary(values: pa.Array, indices: list[int | None], index: pa.DataType) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices, index), values)


def test_plain_columns_pass_without_a_copy() -> None:
    """The usual put has nothing to decode: its very batches go on."""
    batch = pa.record_batch(
        {"a": pa.array([1]), "b": pa.array(["x"]), "c": pa.array([[1.0]]), "d": pa.array([{"e": 1}])}
    )
    assert plain_batch(batch) is batch
    mixed = pa.record_batch({"a": pa.array([1]), "b": pa.array(["x"]).dictionary_encode()})
    assert plain_batch(mixed).column(0).buffers()[1].address == mixed.column(0).buffers()[1].address


@settings(deadline=None, max_examples=examples(100))
@given(type_=TYPES)
def test_plain_types_are_plain(type_: pa.DataType) -> None:
    """No encoding is left at any depth, and what is plain stays the type that it is."""
    plain = plain_type(type_)
    assert is_plain(plain)
    assert plain_type(plain) is plain


@settings(deadline=None, max_examples=examples(50))
@given(schema=SCHEMAS, rows=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_the_size_is_known_before_decoding(schema: pa.Schema, rows: int, seed: int) -> None:
    """What a batch is counted for, encoded, is never less than what it takes once it is plain, but for bitmaps."""
    [batch] = random_batches(schema, [rows], np.random.default_rng(seed))
    plain = plain_batch(batch)
    compact = pa.ipc.read_record_batch(plain.serialize(), plain.schema)  # without what lies outside slices
    assert plain_bytes(batch) * 1.25 + 64 * len(schema) >= compact.nbytes


def test_what_expands_is_counted_as_it_expands() -> None:
    """A few bytes that stand for many are counted in full, whatever the encoding, and nothing of that size is made."""
    megabyte = pa.array(["x" * (1 << 20)])
    rows = 10_000
    dictionary = _dictionary(megabyte, [0] * rows, pa.int8())
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), megabyte)
    views = megabyte.cast(pa.string_view())
    views = pa.Array.from_buffers(
        views.type, rows, [None, pa.py_buffer(bytes(views.buffers()[1])[:16] * rows), *views.buffers()[2:]]
    )
    items = pa.array(np.zeros(1 << 20, np.int8))
    zeros, lengths = pa.array([0] * rows, pa.int32()), pa.array([1 << 20] * rows, pa.int32())
    lists = pa.ListViewArray.from_arrays(zeros, lengths, items)
    for encoded in (dictionary, runs, views, lists):
        assert plain_bytes(_batch(encoded)) >= rows << 20
        nested = pa.StructArray.from_arrays([encoded], names=["a"])
        assert plain_bytes(_batch(_dictionary(nested, [0, 0], pa.int8()))) >= 2 << 20


@pytest.mark.parametrize(
    "array",
    [
        pa.Array.from_buffers(pa.null(), 2**40, [None]),
        pa.Array.from_buffers(
            pa.struct([("a", pa.null())]), 2**40, [None], children=[pa.Array.from_buffers(pa.null(), 2**40, [None])]
        ),
        pa.RunEndEncodedArray.from_arrays(pa.array([2**62], pa.int64()), pa.array([1])),
        pa.Array.from_buffers(
            pa.large_list(pa.null()),
            1,
            [None, pa.py_buffer(np.array([0, 2**40]))],
            children=[pa.Array.from_buffers(pa.null(), 2**40, [None])],
        ),
    ],
    ids=["nulls", "structs", "runs", "lists"],
)
def test_values_without_bytes_are_counted(array: pa.Array) -> None:
    """A column may claim billions of values in no bytes at all: it is too long, or too large, before it is touched."""
    with suppress(TooLongError):
        assert plain_bytes(_batch(array), limit=1 << 20) > 1 << 20


@settings(deadline=None, max_examples=examples(100))
@given(type_=TYPES, rows=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_equal_values_have_equal_codes(type_: pa.DataType, rows: int, seed: int) -> None:
    """Codes tell values of any type apart by their bits; a value's first row is the first with its code."""
    random = np.random.default_rng(seed)
    plain = plain_batch(_batch(random_array(type_, rows, random))).column(0)
    codes = value_codes(plain, bitwise=True)
    schema = pa.schema([("x", plain.type)])
    digests = [digest_of([_batch(plain.slice(row, 1))], schema) for row in range(rows)]
    nothing = digest_of([_batch(pa.nulls(1, plain.type))], schema)
    assert [code >= 0 for code in codes] == [digest != nothing for digest in digests]
    by_code: dict[int, set[str]] = {}
    for code, digest in zip(codes.tolist(), digests, strict=True):
        by_code.setdefault(code, set()).add(digest)
    assert all(len(same) == 1 for same in by_code.values())
    assert len({digest for same in by_code.values() for digest in same}) == len(by_code)
    assert [codes.tolist().index(code) for code in range(int(codes.max(initial=-1)) + 1)] == first_rows(codes).tolist()


@pytest.mark.parametrize(("index", "fits"), [(pa.int8(), 128), (pa.uint8(), 256)], ids=["int8", "uint8"])
@pytest.mark.parametrize("nested", [False, True], ids=["column", "items"])
def test_a_dictionary_never_outgrows_its_index(index: pa.DataType, fits: int, nested: bool) -> None:
    """Files join rows that came with different dictionaries: reads cut where one index cannot count all values."""
    sent = []
    for first in (0, 1_000, 2_000):
        texts = pa.array([f"value {first + row}" for row in range(fits)])
        column = _dictionary(texts, list(range(fits)), index)
        sent.append(_batch(pa.ListArray.from_arrays([0, 2, fits], column) if nested else column))
    schema = sent[0].schema
    joined = pa.concat_batches([plain_batch(batch) for batch in sent])
    read = list(encoded_batches(joined, schema))
    assert len(read) > 1
    assert_same(pa.Table.from_batches(read), sent, schema)


def test_runs_never_outgrow_their_ends() -> None:
    """The same for runs whose ends are too small for all rows of a batch."""
    runs = pa.run_end_encoded(pa.int16(), pa.int8())
    column = pa.Array.from_buffers(
        runs, 32_767, [None], children=[pa.array([32_767], pa.int16()), pa.array([7], pa.int8())]
    )
    sent = [_batch(column), _batch(column)]
    joined = pa.concat_batches([plain_batch(batch) for batch in sent])
    assert_same(pa.Table.from_batches(list(encoded_batches(joined, sent[0].schema))), sent, sent[0].schema)


def test_long_values_are_no_longer_than_their_dictionary() -> None:
    """Reads send a value once for each dictionary, as it came."""
    column = _dictionary(pa.array(["x" * 1_000, None]), [0, 0, None, 1, 0] * 100, pa.int32())
    [read] = encoded_batches(plain_batch(_batch(column)), _batch(column).schema)
    assert read.column(0).dictionary.to_pylist() == ["x" * 1_000]
    assert read.column(0).null_count == 200


def test_rows_of_fixed_lists_in_fixed_lists_are_taken_as_they_are() -> None:
    """Pyarrow's own ``take`` forgets offsets here and reads beyond buffers; ours gives the right rows, nulls too."""
    inner = pa.FixedSizeListArray.from_arrays(pa.array(range(24), pa.int32()), 2)
    lists = pa.FixedSizeListArray.from_arrays(inner, 2).slice(2)
    expected = lists.to_pylist()
    batch = pa.record_batch([lists, pa.ListArray.from_arrays([0, 1, 2, 3, 4], lists)], ["a", "b"])
    taken = take_batch(batch, np.array([3, 0, -1]))
    assert taken.column("a").to_pylist() == [expected[3], expected[0], None]
    assert taken.column("b").to_pylist() == [[expected[3]], [expected[0]], None]
    taken.validate(full=True)


SHAPES = [
    (pa.int8(), pa.int64()),
    (pa.uint32(), pa.int64()),
    (pa.float32(), pa.float64()),
    (pa.decimal32(5, 2), pa.decimal128(20, 2)),
    (pa.decimal128(5, 2), pa.decimal32(9, 2)),
    (pa.decimal64(12, 0), pa.decimal128(12, 0)),
    (pa.timestamp("s"), pa.timestamp("us")),
    (pa.timestamp("s", "UTC"), pa.timestamp("ms", "UTC")),
    (pa.string(), pa.large_string()),
    (pa.large_binary(), pa.binary()),
    (pa.list_(pa.string()), pa.large_list(pa.field("element", pa.large_string()))),
    (pa.map_(pa.string(), pa.list_(pa.int8())), pa.map_(pa.large_string(), pa.large_list(pa.int8()), True)),
    (pa.struct([("a", pa.large_string())]), pa.struct([pa.field("a", pa.string(), metadata={"k": "v"})])),
    (pa.list_(pa.large_string(), 2), pa.list_(pa.field("x", pa.string()), 2)),
]


@pytest.mark.parametrize(("old", "new"), SHAPES, ids=str)
def test_rows_of_older_schemas_get_the_type_of_the_newer(old: pa.DataType, new: pa.DataType) -> None:
    """Values and nulls stay, and the type is the very type of the dataset."""
    rows = random_array(old, 40, np.random.default_rng(3))
    shaped = reshape(rows, new)
    assert shaped.type == new
    shaped.validate(full=True)
    if pa.types.is_timestamp(old):
        assert shaped.cast(old).equals(rows)
    elif not pa.types.is_floating(old):
        assert shaped.to_pylist() == [
            list(map(tuple, v)) if isinstance(v, list) and pa.types.is_map(old) else v for v in rows.to_pylist()
        ]
    else:
        assert np.array_equal(np.array(shaped.to_pylist(), float), np.array(rows.to_pylist(), float), equal_nan=True)


def test_plain_schemas_keep_names_and_metadata() -> None:
    """Digests find an extension's name in the metadata of the plain field; all else stays."""
    field = pa.field("x", pa.list_(pa.field("i", pa.uuid(), metadata={"a": "b"})), metadata={"c": "d"}, nullable=False)
    plain = plain_schema(pa.schema([field], metadata={"e": "f"}))
    assert plain.metadata == {b"e": b"f"}
    assert plain.field("x").metadata == {b"c": b"d"}
    assert not plain.field("x").nullable
    assert plain.field("x").type.value_field.metadata == {b"a": b"b", b"ARROW:extension:name": b"arrow.uuid"}
