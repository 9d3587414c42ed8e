"""Puts into a real server, over a real connection, up to the last receipt; everything is read back and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

import pyarrow as pa

import timestore
from bench.contenders import TIMESTORE
from bench.data import TIMESTAMP_COLUMN, deal
from bench.load import Load
from bench.measuring import AbsentError, Figures, PeakMemory, check, own_cpu_s, timed_in_parallel
from bench.server import Server
from bench.verify import check_stored, read_batches
from timestore.client import Client
from timestore.errors import TimestoreError
from timestore.receipt import Receipt


class TimestorePut:
    """Makes a dataset of its own in every run."""

    name = TIMESTORE
    durability = "every file and its directories fsynced, one Postgres commit, visible and exactly once"

    def __init__(self, server: Server, *, read: Callable[[str], Iterable[pa.RecordBatch]] | None = None) -> None:
        self._server = server
        self._read = read or (lambda dataset: read_batches(server.url, dataset))
        self._numbers = count(1)

    def run(self, load: Load) -> Figures:
        """Put all rows over so many streams at once; then read them back and compare."""
        dataset = f"{load.rows.shape}_{next(self._numbers)}"
        clients = [timestore.connect(self._server.url) for _ in range(load.streams)]
        try:
            _create(clients[0], dataset, load)
            for client in clients:
                client.describe(dataset)  # connects
            disk_before = self._server.disk_bytes
            figures, receipts = self._put(dataset, clients, load)
        finally:
            for client in clients:
                client.close()
        _check_receipts(receipts, load)
        check_stored(self.name, load, self._read(dataset))
        return {**figures, "disk_bytes": self._server.disk_bytes - disk_before}

    def _put(self, dataset: str, clients: list[Client], load: Load) -> tuple[Figures, list[Receipt]]:
        def append(job: tuple[Client, list[pa.RecordBatch]]) -> Receipt:
            client, batches = job
            reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
            return client.append(dataset, reader, landing="file")

        jobs = list(zip(clients, deal(load.rows.batches, load.streams), strict=True))
        server_before, own_before = self._server.cpu_s, own_cpu_s()
        with PeakMemory(self._server.process) as memory:
            seconds, receipts = timed_in_parallel(append, jobs)
        client_cpu_s, server_cpu_s = own_cpu_s() - own_before, self._server.cpu_s - server_before
        figures = {
            "seconds": seconds,
            "cpu_s": client_cpu_s + server_cpu_s,
            "server_cpu_s": server_cpu_s,
            "rss_before_bytes": float(memory.before_bytes),
            "rss_peak_bytes": float(memory.peak_bytes),
        }
        return figures, receipts


def _create(client: Client, dataset: str, load: Load) -> None:
    try:
        client.create_dataset(
            dataset, load.rows.schema, timestamp_column=TIMESTAMP_COLUMN, window="1d", order=load.order
        )
    except TimestoreError as exc:
        if exc.kind == "type_unsupported":
            raise AbsentError(exc.message) from exc
        raise


def _check_receipts(receipts: list[Receipt], load: Load) -> None:
    rows = sum(receipt.rows for receipt in receipts)
    check(rows == load.rows.rows, f"the receipts are for {rows:,} of {load.rows.rows:,} rows")
    check(not any(receipt.replayed for receipt in receipts), "a put was replayed: nothing new was written")
