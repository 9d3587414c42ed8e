"""Streams that no honest client sends, against a server process: it lives, says what is wrong, and keeps nothing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import grpc
import numpy as np
import pyarrow as pa
import pytest

from tests.fixtures.arrow_layouts import LAYOUTS
from tests.fixtures.data import START, cpu_table
from tests.fixtures.flight_sql import field
from tests.fixtures.raw_flight import DO_PUT, flight_data, ipc_messages, with_body
from tests.fixtures.raw_put import command
from tests.fixtures.server import wait_until
from tests.fixtures.victim import MIB, Victim, put_on
from tests.fixtures.wrong_buffers import wrong_buffers

TABLE = cpu_table(1_000)
SCHEMA, BATCH = ipc_messages(TABLE)
ONE_ROW = ipc_messages(TABLE.slice(0, 1))[1]
BUDGET_BYTES = 256 * MIB
CONSTANT_BYTES = 512 * MIB
MAX_BATCH_BYTES = 256 * MIB


def _begin(schema: pa.ipc.Message = SCHEMA, *, dataset: str = "hostile") -> bytes:
    return flight_data(schema, command(dataset=dataset, end="eof"))


def _empty_batch() -> bytes:
    empty = pa.RecordBatch.from_arrays([pa.array([], each.type) for each in TABLE.schema], schema=TABLE.schema)
    return flight_data(pa.ipc.read_message(empty.serialize()))


def _compressed(table: pa.Table, codec: str) -> tuple[pa.ipc.Message, pa.ipc.Message]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table)
    schema, batch = pa.ipc.MessageReader.open_stream(pa.BufferReader(sink.getvalue()))
    return schema, batch


def _zeros(rows: int) -> pa.Table:
    return pa.table({"ts": pa.array(np.full(rows, START), pa.timestamp("us", "UTC"))})


def _nested(depth: int) -> bytes:
    """A put's first message with a column so deep; beyond 125 levels pyarrow itself would not read the schema."""
    type_: pa.DataType = pa.int32()
    for level in range(depth):
        type_ = pa.list_(type_) if level % 2 else pa.struct([("inner", type_)])
    encapsulated = pa.schema([("ts", pa.timestamp("us")), ("deep", type_)]).serialize().to_pybytes()
    descriptor = command(dataset="hostile", end="eof").serialize()
    return field(1, descriptor) + field(2, encapsulated[8:]) + field(1000, b"")  # 8: a mark, and the length


def _dictionary_batch() -> bytes:
    table = pa.table({"d": pa.array(["a", "b"]).dictionary_encode()})
    return flight_data(ipc_messages(table)[1])


OTHER_SCHEMA, OTHER_BATCH = ipc_messages(TABLE.select(["ts", "errors"]))
REFUSED = {
    "a second schema": ([_begin(), flight_data(SCHEMA), flight_data(BATCH)], "batch_invalid"),
    "another schema": ([_begin(), flight_data(OTHER_SCHEMA), flight_data(OTHER_BATCH)], "batch_invalid"),
    "a batch of another schema": ([_begin(), flight_data(BATCH), flight_data(OTHER_BATCH)], "batch_invalid"),
    "a dictionary of nothing": ([_begin(), _dictionary_batch(), flight_data(BATCH)], "batch_invalid"),
    "endless metadata": ([_begin(), *[field(3, b'{"end":true,"rows":0}')] * 10_000], "end_missing"),
    "metadata that is no marker": ([_begin(), field(3, b"\xff" * 1000)], "descriptor_invalid"),
    "a marker of 100 MB": ([_begin(), field(3, b"x" * 100_000_000)], "descriptor_invalid"),
    "no schema": ([field(1, command(dataset="hostile").serialize())], "batch_invalid"),
    "no message": ([], ""),
    "an empty message": ([b""], ""),
    "no descriptor": ([flight_data(SCHEMA)], ""),
    "a key of 100 MB": ([flight_data(SCHEMA, command(dataset="hostile", key={"a": "x" * 100_000_000}))],
                        "descriptor_invalid"),
    "nested 40 levels deep": ([_nested(40)], "schema_mismatch"),
    "nested 100 levels deep": ([_nested(100)], "schema_mismatch"),
    "nested deeper than Arrow reads": ([_nested(1_000)], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(victim: Victim, name: str) -> None:
    """A stream that breaks the rules is refused with its kind; where pyarrow looks before we can, with gRPC's error."""
    requests, kind = REFUSED[name]
    with victim.unharmed():
        ended = victim.put(requests)

    assert (ended.code, ended.kind) == (grpc.StatusCode.UNKNOWN, kind)


def test_every_word_of_a_header(victim: Victim) -> None:
    """A batch header with any of its words replaced by a huge or negative one is refused, or means the same."""
    header = BATCH.metadata.to_pybytes()
    words = [struct.pack("<q", value) for value in (-1, 1 << 31, 1 << 40, (1 << 62) + 1, (1 << 63) - 1)]
    with victim.unharmed(), grpc.insecure_channel(victim.address) as channel:
        for at in range(0, len(header) - 7, 8):
            for word in words:
                broken = field(2, header[:at] + word + header[at + 8 :]) + field(1000, BATCH.body.to_pybytes())
                # The end that never comes keeps what means the same from being committed.
                begun = flight_data(SCHEMA, command(dataset="hostile", idempotency_key="never"))
                ended = put_on(channel, [begun, broken])
                assert ended.kind in ("batch_invalid", "batch_too_large", "end_missing"), (at, word, ended)


@pytest.mark.parametrize("name", LAYOUTS)
def test_wrong_buffers(victim: Victim, name: str) -> None:
    """Whatever the type, buffers of nonsense are refused before anything follows an offset in them."""
    stamps = pa.array([START] * 3, pa.timestamp("us", "UTC"))
    schema, *messages = ipc_messages(pa.table({"ts": stamps, "column": LAYOUTS[name]}))
    with victim.unharmed(), grpc.insecure_channel(victim.address) as channel:
        for how, broken in wrong_buffers(messages):
            ended = put_on(channel, [_begin(schema), *broken])
            assert ended.code is grpc.StatusCode.UNKNOWN, (how, ended)
            assert ended.kind in (
                "batch_invalid",
                "type_unsupported",
                "timestamp_out_of_bounds",
                "timestamp_null",
            ), ended


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("claim", [0, 1, -1, -2, 1 << 33, 1 << 40, 1 << 62, (1 << 63) - 1])
def test_compressed_bodies_that_lie(victim: Victim, codec: str, claim: int) -> None:
    """A compressed body that claims another size than it has is refused, and takes no more memory than it has."""
    rows = 100_000
    schema, batch = _compressed(_zeros(rows), codec)
    told = batch.body.to_pybytes().replace(struct.pack("<q", 8 * rows), struct.pack("<q", claim))
    with victim.unharmed() as peak:
        ended = victim.put([_begin(schema), with_body(batch, told)])

    assert (ended.code, ended.kind) == (grpc.StatusCode.UNKNOWN, "batch_invalid")
    assert peak() < BUDGET_BYTES + CONSTANT_BYTES


def test_a_bomb_leaves_no_memory_behind(victim: Victim) -> None:
    """Less than 100 KB that expand to 800 MB are refused at once, and the memory goes back to the system."""
    schema, batch = _compressed(_zeros(100_000_000), "zstd")
    assert batch.body.size < 100_000
    victim.settle()
    before = victim.process.memory_info().rss
    with victim.unharmed() as peak:
        ended = victim.put([_begin(schema), flight_data(batch)])

    assert ended.kind == "batch_too_large"
    assert peak() > 500 * MIB  # Arrow expands before anybody can look
    assert victim.process.memory_info().rss < before + 100 * MIB


@pytest.mark.parametrize("where", ["body", "metadata"])
def test_rows_cannot_hide_what_they_keep(victim: Victim, where: str) -> None:
    """One row in a message of 20 MB counts as 20 MB: 4 GB of such messages stream through within the budget."""
    waste = b"\0" * 20_000_000
    body = ONE_ROW.body.to_pybytes()
    message = with_body(ONE_ROW, body + waste) if where == "body" else with_body(ONE_ROW, body, metadata=waste)
    with victim.unharmed(appends=1) as peak:
        ended = victim.put([_begin(dataset=f"hiding-in-{where}"), *[message] * 200])

    assert ended.code is grpc.StatusCode.OK
    assert peak() < BUDGET_BYTES + CONSTANT_BYTES


def test_a_message_larger_than_a_batch_may_be(victim: Victim) -> None:
    """What may not come in rows may not come beside them either."""
    waste = b"\0" * (MAX_BATCH_BYTES + 2 * MIB)
    with victim.unharmed():
        ended = victim.put([_begin(), with_body(ONE_ROW, ONE_ROW.body.to_pybytes(), metadata=waste)])

    assert ended.kind == "batch_too_large"


def _with_a_string_of(size: int) -> list[bytes]:
    stamps = pa.array([START], pa.timestamp("us", "UTC"))
    schema, batch = ipc_messages(pa.table({"ts": stamps, "text": pa.array(["x" * size])}))
    return [_begin(schema, dataset="long-text"), flight_data(batch)]


def test_one_string_as_large_as_a_batch_may_be(victim: Victim) -> None:
    """A single value of nearly `max_batch_bytes` is stored, in a few times its size, and can be read back."""
    size = MAX_BATCH_BYTES - 1_000
    with victim.unharmed(appends=1) as peak:
        ended = victim.put(_with_a_string_of(size))

    assert ended.code is grpc.StatusCode.OK
    assert peak() < 6 * MAX_BATCH_BYTES
    assert victim.client.read("long-text").column("text")[0].as_buffer().size == size


def test_one_string_larger_than_a_batch_may_be(victim: Victim) -> None:
    """A single value of a gigabyte is refused, and leaves no memory behind."""
    victim.settle()
    before = victim.process.memory_info().rss
    with victim.unharmed():
        ended = victim.put(_with_a_string_of(1_000_000_000))

    assert ended.kind == "batch_too_large"
    wait_until(lambda: victim.process.memory_info().rss < before + 100 * MIB)


def test_a_hundred_thousand_tiny_batches(victim: Victim) -> None:
    """So many batches of one row are one append, one file, and little memory."""
    with victim.unharmed(appends=1) as peak:
        ended = victim.put([_begin(dataset="tiny"), *[flight_data(ONE_ROW)] * 100_000], timeout_s=110)

    assert ended.code is grpc.StatusCode.OK
    assert victim.client.describe("tiny")["slices"] == 1
    assert peak() < BUDGET_BYTES + CONSTANT_BYTES


def test_empty_batches(victim: Victim) -> None:
    """Ten thousand batches without rows cost nothing, and become an append without rows."""
    with victim.unharmed(appends=1):
        ended = victim.put([_begin(dataset="empty"), *[_empty_batch()] * 10_000])

    assert ended.code is grpc.StatusCode.OK
    assert victim.client.describe("empty")["rows"] == 0


def test_connections_that_say_nothing(victim: Victim) -> None:
    """A thousand connections without a call take nothing from others, and are forgotten when they close."""
    host, port = victim.address.split(":")
    with victim.unharmed(appends=1), ExitStack() as connections:
        for _ in range(1_000):
            connections.enter_context(closing(socket.create_connection((host, int(port)))))
        assert victim.client.append("beside", cpu_table(10)).rows == 10


def test_calls_that_never_begin(victim: Victim) -> None:
    """Two hundred puts that never send a message take no place from others; when they go, so do their threads."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    threads = victim.process.num_threads()
    with victim.unharmed(appends=1), grpc.insecure_channel(victim.address) as channel:
        calls = [channel.stream_stream(DO_PUT)(nothing(), timeout=60) for _ in range(200)]
        wait_until(lambda: victim.process.num_threads() >= threads + 150)
        assert victim.client.append("beside", cpu_table(10)).rows == 10
        for call in calls:
            call.cancel()
        over.set()


def test_many_puts_at_once(victim: Victim) -> None:
    """Of three hundred puts at once, as many are taken as may run; the others are refused as overloaded, at once."""
    begun = flight_data(SCHEMA, command(dataset="hostile", idempotency_key="never"))
    over = threading.Event()

    def stream() -> Iterator[bytes]:
        yield begun
        over.wait(60)

    with victim.unharmed(), grpc.insecure_channel(victim.address) as channel:
        calls = [channel.stream_stream(DO_PUT)(stream(), timeout=60) for _ in range(300)]
        wait_until(lambda: sum(call.done() for call in calls) >= 300 - 128)
        refused = [call for call in calls if call.done()]
        assert len(refused) == 300 - 128
        assert {call.code() for call in refused} == {grpc.StatusCode.UNAVAILABLE}
        assert all((call.details() or "").startswith("[overloaded]") for call in refused)
        for call in calls:
            call.cancel()
        over.set()
