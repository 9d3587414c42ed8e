"""What any put is told from: one change anywhere; and what it is not told from: how it travelled."""

from itertools import pairwise

import pyarrow as pa
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.fixtures.logical_rows import TYPES, build, model, puts, values_of
from timestore.digest import PayloadDigest, fingerprint, logical_schema


def _digest(schema, batches):
    running = PayloadDigest(schema)
    for batch in batches:
        running.update(batch)
    return running.finish()


def _sent(batches, **options):
    """The batches of a stream as they arrive at the other end of the wire."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    reader = pa.ipc.open_stream(sink.getvalue())
    return reader.schema, list(reader)


@settings(deadline=None, max_examples=40)
@given(put=puts(), compression=st.sampled_from([None, "lz4", "zstd"]), cuts=st.lists(st.integers(0, 6), max_size=3))
def test_no_wire_leaves_a_trace(put, compression, cuts):
    """Nested rows in any form, sliced anywhere, compressed or not, arrive with the digest that the reference says."""
    columns, rows, forms = put
    candidates = [batch for batch in forms[0] + forms[1] if batch.num_rows == rows and _travels(batch.schema)]
    assume(candidates)
    whole = candidates[0]
    edges = sorted({0, rows, *(cut for cut in cuts if cut <= rows)})
    batches = [whole.slice(a, b - a) for a, b in pairwise(edges)] or [whole]
    assert _digest(*_sent(batches, compression=compression)) == model(columns, rows)


def _travels(schema):
    """IPC does not know dictionaries within dictionaries: pyarrow writes something else."""
    return not any(_has_nested_dictionary(type_, within=False) for type_ in schema.types)


def _has_nested_dictionary(type_, *, within):
    if pa.types.is_dictionary(type_):
        return within or _has_nested_dictionary(type_.value_type, within=True)
    return any(_has_nested_dictionary(type_.field(i).type, within=within) for i in range(type_.num_fields))


TAGS = st.sampled_from([None, "", "eu", "us", "a value of more than twelve bytes", "Zürich"])


@st.composite
def _dictionary_batches(draw):
    """Batches of one text column, each with a dictionary of its own: grown, replaced, with unused and null values."""
    batches: list[pa.RecordBatch] = []
    values: list[str | None] = []
    kept: list[str | None] = []
    for _ in range(draw(st.integers(1, 4))):
        rows = draw(st.lists(TAGS, max_size=6))
        missing = list(dict.fromkeys(row for row in rows if row not in values))
        if draw(st.booleans()):
            values = [*values, *missing]  # a delta
        else:
            values = draw(st.permutations([*dict.fromkeys([*rows, draw(TAGS)])]))
        indices = [
            None if row is None and draw(st.booleans()) else values.index(row) if row in values else None
            for row in rows
        ]
        dictionary = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), pa.array(values, pa.string()))
        batches.append(pa.record_batch({"tag": dictionary}))
        kept += rows
    return batches, kept


@settings(deadline=None, max_examples=60)
@given(made=_dictionary_batches(), deltas=st.booleans())
def test_dictionaries_leave_no_trace(made, deltas):
    """Deltas, replacements, other orders, unused values, nulls in the index or in the values: the plain column."""
    batches, rows = made
    plain = pa.record_batch({"tag": pa.array(rows, pa.string())})
    expected = _digest(plain.schema, [plain])
    assert _digest(batches[0].schema, batches) == expected
    assert _digest(*_sent(batches, emit_dictionary_deltas=deltas)) == expected


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_one_changed_value_is_another_put(data):
    """Whatever the type: one row that differs, anywhere and however deep, is another digest."""
    kind = data.draw(TYPES)
    rows = data.draw(st.lists(values_of(kind), min_size=1, max_size=6))
    at = data.draw(st.integers(0, len(rows) - 1))
    other = data.draw(values_of(kind))
    assume(other != rows[at])
    changed = [*rows[:at], other, *rows[at + 1 :]]
    assert len({_of(data.draw, kind, rows), _of(data.draw, kind, changed)}) == 2


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_two_exchanged_rows_are_another_put(data):
    """The order of rows counts."""
    kind = data.draw(TYPES)
    rows = data.draw(st.lists(values_of(kind), min_size=2, max_size=6))
    a, b = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, len(rows) - 1))
    assume(rows[a] != rows[b])
    exchanged = list(rows)
    exchanged[a], exchanged[b] = rows[b], rows[a]
    assert len({_of(data.draw, kind, rows), _of(data.draw, kind, exchanged)}) == 2


def _of(draw, kind, rows):
    batch = pa.record_batch([build(draw, kind, rows)], ["x"])
    return _digest(batch.schema, [batch])


def _inside(leaf):
    """A leaf field in every kind of nest."""
    return [
        pa.struct([leaf]),
        pa.list_(pa.struct([leaf])),
        pa.list_(pa.struct([leaf]), 2),
        pa.map_(pa.string(), pa.struct([leaf])),
        pa.struct([("outer", pa.struct([leaf]))]),
    ]


LEAVES = [
    pa.field("a", pa.timestamp("us")),
    pa.field("b", pa.timestamp("us")),
    pa.field("a", pa.timestamp("ns")),
    pa.field("a", pa.timestamp("us", "UTC")),
    pa.field("a", pa.timestamp("us", "Etc/UTC")),
    pa.field("a", pa.duration("us")),
    pa.field("a", pa.int64()),
    pa.field("a", pa.uint64()),
    pa.field("a", pa.int64(), metadata={"ARROW:extension:name": "x.one"}),
    pa.field("a", pa.int64(), metadata={"ARROW:extension:name": "x.two"}),
]


def test_names_units_zones_and_extensions_count_inside_nests():
    """A nested field that is called otherwise, or has another unit, zone, width or extension, is another put."""
    seen: list[set[tuple[str, str]]] = [set() for _ in range(5)]
    for leaf in LEAVES:
        for position, type_ in enumerate(_inside(leaf)):
            schema = pa.schema([("x", type_)])
            digest = _digest(schema, [])
            seen[position].add((digest, fingerprint(key={}, schema=schema, payload_digest=digest)))
            assert logical_schema(schema) != logical_schema(pa.schema([("y", type_)]))
    assert [len(found) for found in seen] == [len(LEAVES)] * 5
