"""The payload digest: equal for equal rows in any form, different for anything else, and the same for ever."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.logical_rows import TYPES, build, model, packed, puts, values_of
from timestore.digest import PayloadDigest, fingerprint, logical_schema, selection

# Shorthands


def _digest(*batches, schema=None):
    running = PayloadDigest(schema if schema is not None else batches[0].schema)
    for batch in batches:
        running.update(batch)
    assert running.rows == sum(batch.num_rows for batch in batches)
    return running.finish()


def of(*arrays):
    """The digest of one column named x that arrives as these arrays."""
    return _digest(*(pa.record_batch([array], ["x"]) for array in arrays))


@settings(deadline=None, max_examples=100)
@given(puts())
def test_any_form_of_the_same_rows_has_the_digest_that_the_reference_defines(put):
    """Batching, slicing, encodings, large and view forms, and what lies under nulls leave no trace; and the digest is
    the documented one, which a model computes row by row.
    """
    columns, rows, forms = put
    expected = model(columns, rows)
    for batches in forms:
        for batch in batches:
            batch.validate(full=False)
        assert _digest(*batches) == expected


@settings(deadline=None, max_examples=50)
@given(puts(), st.integers(1, 40))
def test_gathering_in_portions_changes_nothing(put, limit):
    """What must be copied to be decoded is copied a bounded piece at a time, with the same digest."""
    columns, rows, (batches, _) = put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "GATHER_LIMIT", limit)
        assert _digest(*batches) == model(columns, rows)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_other_rows_have_another_digest(data):
    """A put that differs in any value, null, order or number of rows is another put."""
    kind = data.draw(TYPES)
    one, other = (data.draw(st.lists(values_of(kind), max_size=4)) for _ in range(2))
    original = of(build(data.draw, kind, one))
    for neighbour in ([*one, None], [None, *one[1:]], one[1:], one[::-1], other):
        assert (of(build(data.draw, kind, neighbour)) == original) == (neighbour == one)


TAGS = pa.array(["eu-west", None, "", "eu-west", "a tag of more than twelve bytes", "ü"])


@pytest.mark.parametrize(
    "form",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.uint8(), pa.large_string()),
        pa.run_end_encoded(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_a_form_that_a_cast_makes_counts_as_the_plain_type(form):
    """What pyarrow's own casts produce has the digest and the logical type of the plain column."""
    if pa.types.is_run_end_encoded(form):
        encoded = pc.run_end_encode(TAGS, run_end_type=form.run_end_type)
    elif pa.types.is_dictionary(form):
        encoded = TAGS.cast(form.value_type).dictionary_encode().cast(form)
    else:
        encoded = TAGS.cast(form)
    assert encoded.type == form
    assert of(encoded) == of(encoded.slice(0, 3), encoded.slice(3)) == of(TAGS)
    assert logical_schema(pa.schema([("x", form)])) == [("x", "string")]


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_the_wire_leaves_no_trace(compression):
    """A put that has been through IPC, compressed or not, has the digest of the rows that were sent."""
    batch = pa.record_batch({"tag": TAGS.dictionary_encode(), "flag": [True, None, False, True, True, None]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_batch(batch.slice(0, 2))
        writer.write_batch(batch.slice(2))
    received = pa.ipc.open_stream(sink.getvalue())
    assert _digest(*received, schema=received.schema) == _digest(batch)


def test_a_decoded_batch_may_stand_for_the_one_sent():
    """A caller who has decoded a dictionary for the writer digests the decoded batch: the promise is per value."""
    sent = pa.record_batch({"tag": TAGS.dictionary_encode()})
    assert _digest(pa.record_batch({"tag": TAGS}), sent, schema=sent.schema) == _digest(sent, sent)


@pytest.mark.parametrize("step", [1, 3, 8, 13, 64])
def test_slices_may_start_at_any_bit(step):
    """Validity and booleans are packed in bits: a batch may start anywhere within a byte."""
    bits = np.random.default_rng(step).random((3, 200)) < 0.5
    batch = pa.record_batch({"flag": pa.array(bits[0], mask=bits[1]), "n": pa.array(np.arange(200), mask=bits[2])})
    assert _digest(*(batch.slice(at, step) for at in range(0, 200, step))) == _digest(batch)


def test_column_order_does_not_count_and_names_do():
    """Columns are matched by name: moved, they are the same put; renamed or exchanged, another."""
    a, b = pa.array([1, 2]), pa.array([3, 4])
    one = _digest(pa.record_batch([a, b], ["a", "b"]))
    assert _digest(pa.record_batch([b, a], ["b", "a"])) == one
    assert _digest(pa.record_batch([b, a], ["a", "b"])) != one
    assert _digest(pa.record_batch([a, b], ["a", "c"])) != one


def test_metadata_and_nullability_do_not_count():
    """A field that forbids nulls, and metadata anywhere, change nothing about the rows."""
    inner = pa.field("n", pa.int64(), nullable=False, metadata={"unit": "V"})
    bare = pa.schema([pa.field("x", pa.struct([pa.field("n", pa.int64())]))])
    dressed = pa.schema([pa.field("x", pa.struct([inner]), nullable=False, metadata={"a": "b"})], metadata={"c": "d"})
    rows = [{"x": {"n": 1}}, {"x": {"n": 2}}]
    batches = [pa.RecordBatch.from_pylist(rows, schema=schema) for schema in (bare, dressed)]
    assert _digest(batches[0]) == _digest(batches[1])
    assert logical_schema(bare) == logical_schema(dressed) == [("x", "struct<1:n=int64>")]


def test_names_of_list_items_and_sorted_keys_do_not_count():
    """``item`` or ``element``: libraries differ, the rows do not. Nor do they differ by sortedness that they have."""
    assert of(pa.array([[1]], pa.list_(pa.field("item", pa.int8())))) == of(
        pa.array([[1]], pa.list_(pa.field("element", pa.int8())))
    )
    sorted_map = pa.map_(pa.string(), pa.int8(), keys_sorted=True)
    assert of(pa.array([[("k", 1)]], sorted_map)) == of(pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())))


DISTINCT = [
    pa.null(),
    pa.bool_(),
    pa.int8(),
    pa.uint8(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time32("ms"),
    pa.timestamp("s"),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
    pa.timestamp("us", "Etc/UTC"),
    pa.duration("us"),
    pa.decimal32(5, 2),
    pa.decimal128(5, 2),
    pa.decimal128(5, 1),
    pa.decimal128(6, 2),
    pa.binary(2),
    pa.binary(3),
    pa.binary(),
    pa.string(),
    pa.list_(pa.string()),
    pa.list_(pa.string(), 1),
    pa.list_(pa.string(), 2),
    pa.struct([("a", pa.int8()), ("b", pa.int8())]),
    pa.struct([("b", pa.int8()), ("a", pa.int8())]),
    pa.struct([("a=int8,1:b", pa.int8())]),
    pa.struct([]),
    pa.map_(pa.string(), pa.int8()),
    pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), ("value", pa.int8())])),
    pa.uuid(),
    pa.binary(16),
    pa.bool8(),
    pa.json_(),
]


def test_every_logical_type_is_another_even_without_rows():
    """Width, unit, zone, precision, scale, fixed size, field names and their order, and extension names all count."""
    texts = {logical_schema(pa.schema([("x", data_type)]))[0][1] for data_type in DISTINCT}
    assert len(texts) == len(DISTINCT)
    assert len({PayloadDigest(pa.schema([("x", data_type)])).finish() for data_type in DISTINCT}) == len(DISTINCT)
    assert len({of(pa.nulls(2, data_type)) for data_type in DISTINCT}) == len(DISTINCT)


class Celsius(pa.ExtensionType):
    """An extension that the process may or may not have registered."""

    def __init__(self):
        super().__init__(pa.int16(), "timestore.test.celsius")

    def __arrow_ext_serialize__(self):
        return b"parameters"

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage_type, _serialized):
        return cls()


def test_an_extension_counts_by_name_whether_registered_or_not():
    """A server that does not know an extension sees storage and field metadata: the same digest, or an upgrade of a
    library would turn retries into conflicts. The extension's parameters do not count, its name does.
    """
    storage = pa.array([1, None, 3], pa.int16())
    known = pa.record_batch({"x": pa.ExtensionArray.from_storage(Celsius(), storage)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, known.schema) as writer:
        writer.write_batch(known)
    (unknown,) = pa.ipc.open_stream(sink.getvalue())
    assert unknown.schema.field("x").type == pa.int16()
    assert _digest(known) == _digest(unknown) != of(storage)
    expected = [("x", "extension<22:timestore.test.celsius,int16>")]
    assert logical_schema(known.schema) == logical_schema(unknown.schema) == expected


def test_an_encoded_extension_counts_as_the_extension():
    """Dictionaries of extensions, and extensions over dictionaries, are the plain extension."""
    storage = pa.array(["{}", None, "{}"])
    plain_json = pa.ExtensionArray.from_storage(pa.json_(), storage)
    over = pa.DictionaryArray.from_arrays(
        pa.array([0, None, 0], pa.int8()), pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"]))
    )
    assert of(over) == of(plain_json) != of(storage)


def test_floats_count_by_their_bits():
    """Zero has two signs and NaN many payloads: a digest that merged them could replay rows that were never sent."""
    bits = [0, 1 << 63, 0x7FF8000000000000, 0x7FF8000000000001, 0xFFF8000000000000]
    columns = [pa.array(np.array([value], "u8").view("f8")) for value in bits]
    assert len({of(column) for column in columns}) == len(bits)


def test_values_of_neighbouring_rows_do_not_run_together():
    """The same bytes cut elsewhere are other rows, in strings, lists and nulls."""
    assert of(pa.array(["ab", "c"])) != of(pa.array(["a", "bc"]))
    assert of(pa.array([[1, 2], []])) != of(pa.array([[1], [2]]))
    assert of(pa.array(["", None])) != of(pa.array([None, ""]))
    assert of(pa.array([None, [None]], pa.list_(pa.int8()))) != of(pa.array([[None], None], pa.list_(pa.int8())))


def test_finish_may_be_asked_at_any_time():
    """It says what the rows so far are, and disturbs nothing."""
    running = PayloadDigest(pa.schema([("x", pa.int64())]))
    first, both = pa.record_batch({"x": [1]}), pa.record_batch({"x": [1, 2]})
    running.update(first)
    assert running.finish() == running.finish() == _digest(first)
    running.update(both.slice(1))
    assert running.finish() == _digest(both)


def test_a_batch_with_other_columns_is_refused():
    """A digest of something that is not the stream's would be worse than none."""
    running = PayloadDigest(pa.schema([("x", pa.int64())]))
    for other in ({"y": [1]}, {"x": ["1"]}, {"x": [1], "y": [1]}):
        with pytest.raises(TypeError, match="other columns"):
            running.update(pa.record_batch(other))


def test_unions_have_no_digest():
    """Nothing else in Timestore takes them either; the error names the type."""
    union = pa.sparse_union([pa.field("a", pa.int8())])
    for schema in (pa.schema([("x", union)]), pa.schema([("x", pa.list_(union))])):
        with pytest.raises(TypeError, match="union"):
            PayloadDigest(schema)
        with pytest.raises(TypeError, match="union"):
            logical_schema(schema)


def test_what_is_too_long_for_its_length_is_refused():
    """Its length does not fit the 32 bits that the format has for it, so it must not be taken for a shorter one."""
    offsets = packed([0, 1 << 32], "i8")
    huge = pa.Array.from_buffers(pa.large_list(pa.null()), 1, [None, offsets], children=[pa.nulls(1 << 32)])
    with pytest.raises(ValueError, match="4 GiB"):
        of(huge)


# The test vectors of docs/reference/payload-digest.md


def _time_and_tag():
    times = pa.array([0, 1_700_000_000_000_000], pa.timestamp("us", "UTC"))
    return pa.record_batch({"time": times, "tag": pa.array(["eu", None])})


def _readings():
    reading = pa.struct([("at", pa.int32()), ("ok", pa.bool_())])
    rows = [[{"at": 1, "ok": True}, None], None, [], [{"at": None, "ok": False}]]
    return pa.record_batch({"readings": pa.array(rows, pa.list_(reading))})


VECTORS = [
    (pa.record_batch({"x": pa.array([1, 2, 3], pa.int64())}), "d1:14fb3c542cd68d38fc0483bcfb25a145"),
    (_time_and_tag(), "d1:a54886e12cd8764987564a131b89ec0a"),
    (_readings(), "d1:f53f9da1e9c41f73b50a89cb97c3cc3a"),
    (pa.record_batch({"x": pa.array([], pa.int64())}), "d1:78bf98b480597011ddb1566806ecbf61"),
]


@pytest.mark.parametrize(("batch", "expected"), VECTORS, ids=["numbers", "time and tag", "nested", "no rows"])
def test_the_documented_vectors_hold(batch, expected):
    """``d1`` is fixed for ever: catalogs are full of it."""
    assert _digest(batch) == expected
    assert _digest(*(batch.slice(i, 1) for i in range(batch.num_rows)), schema=batch.schema) == expected


def test_the_documented_fingerprint_holds():
    """``f1`` is fixed for ever too. It hashes a JSON text that another language can write as well."""
    batch = _time_and_tag()
    key = {"site": 'Zürich "1"', "region": "eu"}
    found = fingerprint(key=key, schema=batch.schema, payload_digest=_digest(batch))
    text = (
        '{"key":{"region":"eu","site":"Zürich \\"1\\""},"payload":"d1:a54886e12cd8764987564a131b89ec0a",'
        '"schema":[["tag","string"],["time","timestamp[us,3:UTC]"]]}'
    )
    assert json.loads(text)["key"] == key
    assert found == f"f1:{xxhash.xxh3_128_hexdigest(text.encode())}"
    assert found == "f1:e94fecf60e76e9cceba16e0b42380ce1"


def test_a_fingerprint_is_key_and_schema_and_payload():
    """The key is a set; any other key, logical schema or payload makes another fingerprint."""
    schema = pa.schema([("x", pa.string())])
    one = fingerprint(key={"a": "1", "b": "2"}, schema=schema, payload_digest="d1:0")
    assert one == fingerprint(key={"b": "2", "a": "1"}, schema=schema, payload_digest="d1:0")
    as_dictionary = pa.schema([("x", pa.dictionary(pa.int32(), pa.string()))])
    assert one == fingerprint(key={"a": "1", "b": "2"}, schema=as_dictionary, payload_digest="d1:0")
    others = [
        fingerprint(key={"a": "2", "b": "1"}, schema=schema, payload_digest="d1:0"),
        fingerprint(key={}, schema=schema, payload_digest="d1:0"),
        fingerprint(key={"a": "1", "b": "2"}, schema=pa.schema([("x", pa.binary())]), payload_digest="d1:0"),
        fingerprint(key={"a": "1", "b": "2"}, schema=schema, payload_digest="d1:1"),
    ]
    assert len({one, *others}) == 5
