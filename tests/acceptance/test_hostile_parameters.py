"""Parameters of prepared statements that no honest client binds, against a server process."""

from __future__ import annotations

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from tests.fixtures.arrow_layouts import LAYOUTS
from tests.fixtures.raw_flight import flight_data, ipc_messages, with_body
from tests.fixtures.raw_put import typed
from tests.fixtures.victim import MIB, Victim, put_on
from tests.fixtures.wrong_buffers import wrong_buffers
from timestore.flight_sql import Statement, encode


def _prepared(statement: Statement) -> flight.FlightDescriptor:
    handle = statement.to_bytes()
    return flight.FlightDescriptor.for_command(
        encode("CommandPreparedStatementQuery", wrapped=True, prepared_statement_handle=handle)
    )


STATEMENT = _prepared(Statement(query="SELECT ?"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_wrong_buffers(victim: Victim, name: str) -> None:
    """Whatever the type, parameters of nonsense are refused before anything follows an offset in them."""
    schema, *messages = ipc_messages(pa.table({"1": LAYOUTS[name]}))
    with victim.unharmed(), grpc.insecure_channel(victim.address) as channel:
        for how, broken in wrong_buffers(messages):
            ended = put_on(channel, [flight_data(schema, STATEMENT), *broken])
            if ended.code is not grpc.StatusCode.OK:
                assert ended.kind == "batch_invalid", (how, ended)


def test_parameters_cannot_hide_what_they_keep(victim: Victim) -> None:
    """A row in a message of 20 MB keeps no more than the row: 2 GB of such messages are bound in little memory."""
    schema, batch = ipc_messages(pa.table({"1": [1]}))
    message = with_body(batch, batch.body.to_pybytes() + b"\0" * 20_000_000)
    with victim.unharmed() as peak:
        before = victim.process.memory_info().rss
        ended = victim.put([flight_data(schema, STATEMENT), *[message] * 100])

    assert ended.code is grpc.StatusCode.OK
    assert peak() < before + 500 * MIB


def test_batches_without_rows_are_bounded(victim: Victim) -> None:
    """Parameters without end are refused, though they have no rows."""
    schema, batch = ipc_messages(pa.table({"1": [1]}))
    empty = pa.record_batch({"1": pa.array([], pa.int64())})
    message = flight_data(pa.ipc.read_message(empty.serialize()))
    with victim.unharmed():
        ended = victim.put([flight_data(schema, STATEMENT), flight_data(batch), *[message] * 10_000])

    assert ended.kind == "query_too_expensive"


@pytest.mark.parametrize("name", ["string", "string_view", "list", "dictionary"])
def test_wrong_buffers_in_a_handle(victim: Victim, name: str) -> None:
    """Parameters come with the handle too, of whose making nobody knows: they are refused where they are read."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("1", LAYOUTS[name].type)])) as writer:
        writer.write_table(pa.table({"1": LAYOUTS[name]}))
    _, *messages = ipc_messages(pa.table({"1": LAYOUTS[name]}))
    encoded = sink.getvalue().to_pybytes()
    for body in (message.body.to_pybytes() for message in messages):
        assert body in encoded
        encoded = encoded.replace(body, b"\xff" * len(body))
    with victim.unharmed(), flight.FlightClient(victim.server.url) as client:
        with pytest.raises(flight.FlightError) as caught:
            client.get_flight_info(_prepared(Statement(query="SELECT ?", parameters=encoded)))
        assert typed(caught.value).kind == "query_invalid"
