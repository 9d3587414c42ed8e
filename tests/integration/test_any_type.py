"""Every type through a real server: put, committed, read back in the form in which it was sent."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import timestore
from readers.plain import plain_batch
from tests.fixtures.arrow_values import SCHEMAS, assert_same, digest_of, random_batches
from tests.fixtures.fuzzing import examples
from tests.fixtures.server import StartService
from timestore.errors import InvalidInputError, TimestoreError


def _read(client: timestore.Client, dataset: str) -> pa.Table:
    table = client.read(dataset)
    assert isinstance(table, pa.Table)
    return table


@settings(deadline=None, max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    schema=SCHEMAS,
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=3).filter(any),
    seed=st.integers(0, 2**32),
)
def test_any_put_is_read_as_it_was_sent(
    client: timestore.Client, schema: pa.Schema, sizes: list[int], seed: int
) -> None:
    """Whatever the types: a read gives schema, metadata and every bit of what was put; and a retry is recognised."""
    sent = random_batches(schema, sizes, np.random.default_rng(seed))
    dataset = f"d{uuid4()}"

    receipt = client.append(
        dataset, pa.Table.from_batches(sent), idempotency_key="k", create={"timestamp_column": "ts"}
    )

    assert_same(_read(client, dataset), sent, schema)
    again = pa.Table.from_batches(sent).combine_chunks() if _joins(schema) else pa.Table.from_batches(sent)
    assert client.append(dataset, again, idempotency_key="k") == receipt.as_replay()


def _joins(schema: pa.Schema) -> bool:
    """Tell whether pyarrow can join chunks of these columns."""
    text = str(schema)
    return not any(form in text for form in ("view", "run_end", "dictionary", "extension"))


OLD = {
    "text": pa.string(),
    "wider": pa.int8(),
    "money": pa.decimal32(5, 2),
    "list": pa.list_(pa.string()),
    "map": pa.map_(pa.string(), pa.int8()),
}
FORMS = {
    "text": pa.dictionary(pa.int8(), pa.large_string()),
    "wider": pa.int32(),
    "money": pa.decimal128(20, 2),
    "list": pa.large_list_view(pa.field("element", pa.string_view())),
    "map": pa.map_(pa.large_string(), pa.int8(), keys_sorted=True),
}
STAMP = pa.field("ts", pa.timestamp("us"), nullable=False)


@pytest.mark.parametrize("turned", [False, True], ids=["plain first", "encoded first"])
def test_every_file_is_read_in_the_form_of_the_dataset(client: timestore.Client, turned: bool) -> None:
    """Forms of the first put stay, widened types are those of the put that widened; older files are read so too."""
    first, second = (FORMS, OLD) if turned else (OLD, FORMS)
    schemas = [pa.schema([STAMP, *(pa.field(*each) for each in forms.items())]) for forms in (first, second)]
    puts = [random_batches(schema, [200], np.random.default_rng(5)) for schema in schemas]
    for sent in puts:
        client.append("forms", pa.Table.from_batches(sent))

    read = client.read("forms")

    expected = {name: first[name] if name in ("text", "list", "map") else FORMS[name] for name in first}
    assert {field.name: field.type for field in read.schema if field.name != "ts"} == expected
    for sent, schema, rows in zip(puts, schemas, (read.slice(0, 200), read.slice(200)), strict=True):
        for name in ("text", "list", "map"):
            column = pa.schema([schema.field(name)])
            assert digest_of(rows.select([name]), column) == digest_of([sent[0].select([name])], column)
        plain = plain_batch(sent[0])
        assert rows.column("wider").to_pylist() == plain.column("wider").to_pylist()
        assert rows.column("money").to_pylist() == plain.column("money").to_pylist()
    old = client.read("forms", version=1)
    assert old.schema.equals(schemas[0], check_metadata=True)
    assert digest_of(old, schemas[0]) == digest_of(puts[0], schemas[0])


def test_equal_tables_are_equal_to_arrow_too(client: timestore.Client) -> None:
    """``Table.equals`` with metadata says so, where pyarrow can compare: nested metadata, nulls at every level."""
    item = pa.field("item", pa.struct([pa.field("a", pa.string(), metadata={"deep": "er"})]), metadata={"k": "v"})
    schema = pa.schema(
        [
            pa.field("ts", pa.timestamp("ms", "Europe/Berlin"), nullable=False, metadata={"unit": "ms"}),
            pa.field("nested", pa.list_(item), metadata={"top": "level"}),
            pa.field("day", pa.date64()),
            pa.field("took", pa.duration("ns")),
            pa.field("every", pa.month_day_nano_interval()),
            pa.field("id", pa.binary(16), metadata={"ARROW:extension:name": "acme.id"}),
            pa.field("known", pa.uuid()),
            pa.field("view", pa.string_view()),
        ],
        metadata={"made by": "a test"},
    )
    table = pa.table(
        [
            pa.array([1, 2, 3], schema.field(0).type),
            pa.array([[{"a": "x"}, None, {"a": None}], None, []], schema.field(1).type),
            pa.array([86_400_000 - 1, None, -5], pa.int64()).view(pa.date64()),
            pa.array([2**63 - 1, None, -(2**63)], pa.int64()).view(pa.duration("ns")),
            pa.array([(1, 2, 3), None, (-1, -2, -3)], pa.month_day_nano_interval()),
            pa.array([b"0" * 16, None, b"\xff" * 16], pa.binary(16)),
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16, None, b"\xff" * 16], pa.binary(16))),
            pa.array(["", None, "longer than twelve bytes"], pa.string_view()),
        ],
        schema=schema,
    )
    client.append("equal", table, create={"timestamp_column": "ts"})
    assert client.read("equal").equals(table, check_metadata=True)


def test_a_value_that_cannot_be_stored_is_refused_at_once(client: timestore.Client) -> None:
    """The refusal names row and place, and nothing lands; the key stays free for a corrected put."""
    maps = pa.array([[("a", 1)], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int8()))
    table = pa.table({"ts": pa.array([1, 2], pa.timestamp("us")), "m": maps})
    with pytest.raises(InvalidInputError) as caught:
        client.append("maps", table, idempotency_key="k")
    assert caught.value.kind == "value_not_storable"
    assert caught.value.details.items() >= {"row": "1", "column": "m", "place": "m"}.items()
    assert client.append("maps", table.slice(0, 1), idempotency_key="k").rows == 1


def test_dictionaries_may_grow_and_be_replaced(client: timestore.Client) -> None:
    """Deltas and replacements of dictionaries on the wire lead to the values that they stand for."""
    form = pa.dictionary(pa.int8(), pa.string())
    batches = [
        pa.record_batch(
            {
                "ts": pa.array([first, first + 1], pa.timestamp("us")),
                "tag": pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), pa.array(words)),
            }
        )
        for first, indices, words in [(0, [0, None], ["a"]), (2, [0, 1], ["a", "b"]), (4, [0, 1], ["x", "y"])]
    ]
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    client.append("tags", pa.ipc.open_stream(sink.getvalue()))

    read = client.read("tags")

    assert read.schema.field("tag").type == form
    assert read.column("tag").to_pylist() == ["a", None, "a", "b", "x", "y"]


def test_a_dictionary_that_would_expand_too_far_is_refused(start_service: StartService) -> None:
    """One long value and many rows: what they take once decoded counts, and both numbers are told."""
    service = start_service(max_batch_bytes="1MiB")
    tags = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), pa.array(["x" * 10_000]))
    table = pa.table({"ts": pa.array(range(10_000), pa.timestamp("us")), "tag": tags})
    with timestore.connect(service.url) as client, pytest.raises(TimestoreError) as caught:
        client.append("tags", table)
    assert caught.value.kind == "batch_too_large"
    assert int(caught.value.details["bytes"]) >= 100_000_000
    assert caught.value.details["limit"] == str(1 << 20)
