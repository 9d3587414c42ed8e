"""Messages that no honest client sends, through raw gRPC."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import grpc
import pyarrow as pa
import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.flight_sql import field
from tests.fixtures.raw_flight import DO_PUT, flight_data, ipc_messages
from tests.fixtures.raw_put import command


def _put(url: str, requests: list[bytes]) -> grpc.StatusCode:
    """Send raw FlightData and return how the call ended."""

    def stream() -> Iterator[bytes]:
        yield from requests

    with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        call = channel.stream_stream(DO_PUT)(stream(), timeout=30)
        try:
            for _ in call:
                pass
        except grpc.RpcError:
            pass
        code: grpc.StatusCode = call.code()
        return code


@pytest.fixture(autouse=True)
def _server_lives(client: timestore.Client) -> Iterator[None]:
    """Whatever came in, the server is alive and has stored nothing of it."""
    yield
    assert client.stats()["appends"] == 0
    assert client.append("cpu", cpu_table(10)).version == 1


@pytest.mark.parametrize(
    "offsets",
    [(0, 1 << 30, 2), (0, -5, 3), (5, 2, 9), (0, 2**31 - 1, 2**31 - 1)],
    ids=["far", "negative", "back", "max"],
)
def test_bad_offsets(server_url: str, offsets: tuple[int, int, int]) -> None:
    """A batch whose string offsets point anywhere is refused; given to DuckDB it would crash the process."""
    table = cpu_table(2)
    schema, batch = ipc_messages(table)
    good = struct.pack("<3i", 0, 6, 12)  # host-0, host-1
    body = batch.body.to_pybytes()
    assert body.count(good) == 1
    broken = body.replace(good, struct.pack("<3i", *offsets))
    request = field(2, batch.metadata.to_pybytes()) + field(1000, broken)

    code = _put(server_url, [flight_data(schema, command(dataset="cpu", end="eof")), request])

    assert code is grpc.StatusCode.UNKNOWN  # input errors


def test_far_lists(server_url: str) -> None:
    """Lists that would end far behind their values are refused; even asking such a batch for its size would crash."""
    schema, batch = ipc_messages(cpu_table(2).append_column("tags", pa.array([["a", "b"], ["c"]])))
    body = batch.body.to_pybytes()
    lists = struct.pack("<3i", 0, 2, 3)
    assert body.count(lists) == 1
    broken = body.replace(lists, struct.pack("<3i", 0, 1 << 30, (1 << 30) + 1))
    request = field(2, batch.metadata.to_pybytes()) + field(1000, broken)

    code = _put(server_url, [flight_data(schema, command(dataset="cpu", end="eof")), request])

    assert code is grpc.StatusCode.UNKNOWN


def test_bad_utf8(server_url: str) -> None:
    """Text that is not UTF-8 is refused."""
    schema, batch = ipc_messages(cpu_table(2))
    broken = batch.body.to_pybytes().replace(b"host-1", b"host-\xff")
    request = field(2, batch.metadata.to_pybytes()) + field(1000, broken)

    assert (
        _put(server_url, [flight_data(schema, command(dataset="cpu", end="eof")), request]) is grpc.StatusCode.UNKNOWN
    )


def test_cut_body(server_url: str) -> None:
    """A body that is shorter than its header says is refused, or ends a stream that had to say its end."""
    schema, batch = ipc_messages(cpu_table(1000))
    request = field(2, batch.metadata.to_pybytes()) + field(1000, batch.body.to_pybytes()[:100])

    code = _put(server_url, [flight_data(schema, command(dataset="cpu", idempotency_key="a")), request])

    assert code is not grpc.StatusCode.OK


@pytest.mark.parametrize("noise", [b"", b"\x00" * 64, b"\xff" * 64, b"\x12\x04abcd"])
def test_noise_instead_of_a_batch(server_url: str, noise: bytes) -> None:
    """Bytes that are no FlightData, or whose header is no message, commit nothing."""
    schema, _ = ipc_messages(cpu_table(2))

    code = _put(server_url, [flight_data(schema, command(dataset="cpu", idempotency_key="a")), noise])

    assert code is not grpc.StatusCode.OK


def test_noise_instead_of_a_schema(server_url: str) -> None:
    """A first message that is no schema is refused."""
    _, batch = ipc_messages(cpu_table(2))

    assert _put(server_url, [flight_data(batch, command(dataset="cpu"))]) is not grpc.StatusCode.OK
