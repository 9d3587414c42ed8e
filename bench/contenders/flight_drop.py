"""A bare Flight server that reads every stream and keeps nothing: the ceiling of the transport."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.flight as flight

from bench.contenders import FLIGHT_DROP
from bench.data import deal
from bench.load import Load
from bench.measuring import Figures, check, own_cpu_s, timed_in_parallel

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class DroppingServer(flight.FlightServerBase):
    """Reads every batch, drops it, and says how many rows there were; the one action tells its processor seconds."""

    def do_put(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,  # noqa: ARG002
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        rows = sum(chunk.data.num_rows for chunk in reader)
        writer.write(str(rows).encode())

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[bytes]:  # noqa: ARG002
        yield repr(time.process_time()).encode()


class FlightDrop:
    """A ``DroppingServer`` in a process of its own, for the time of a ``with``."""

    name = FLIGHT_DROP
    durability = "none: nothing is kept"

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork of a process that runs gRPC does not work
        self._ours, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs,), name="flight-drop", daemon=True)
        self._url = ""

    def __enter__(self) -> Self:
        self._process.start()
        check(self._ours.poll(START_TIMEOUT_S), "the bare Flight server did not start")
        self._url = f"grpc://127.0.0.1:{self._ours.recv()}"
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._process.terminate()
        self._process.join(STOP_TIMEOUT_S)

    def run(self, load: Load) -> Figures:
        """Send all rows; the count is all that can be checked."""
        clients = [flight.FlightClient(self._url) for _ in range(load.streams)]
        try:
            for client in clients:
                client.wait_for_available()
            jobs = list(zip(clients, deal(load.rows.batches, load.streams), strict=True))
            server_before, own_before = _cpu_s(clients[0]), own_cpu_s()
            seconds, counts = timed_in_parallel(_send, jobs)
            client_cpu_s, server_cpu_s = own_cpu_s() - own_before, _cpu_s(clients[0]) - server_before
        finally:
            for client in clients:
                client.close()
        check(sum(counts) == load.rows.rows, f"{self.name} got {sum(counts):,} of {load.rows.rows:,} rows")
        return {"seconds": seconds, "cpu_s": client_cpu_s + server_cpu_s, "server_cpu_s": server_cpu_s}


def _serve(parent: Connection) -> None:
    server = DroppingServer("grpc://127.0.0.1:0")
    parent.send(server.port)
    server.serve()


def _cpu_s(client: flight.FlightClient) -> float:
    [result] = client.do_action(flight.Action("cpu_s", b""))
    return float(result.body.to_pybytes())


def _send(job: tuple[flight.FlightClient, list[pa.RecordBatch]]) -> int:
    client, batches = job
    writer, answers = client.do_put(flight.FlightDescriptor.for_path("drop"), batches[0].schema)
    with writer:
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        return int(answers.read().to_pybytes())
