"""Puts into a real ``timestore serve``, over a real connection, and everything read back and compared."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pyarrow as pa

import timestore
from bench.data import TIMESTAMP_COLUMN, deal
from bench.row_digest import RowDigest
from bench.runs import Rows, Run, check, timed_in_parallel
from timestore.client import Client
from timestore.receipt import Receipt
from timestore_app.demo.server_process import ServerProcess

SAMPLE_INTERVAL_S = 0.02


class TimestorePut:
    """A server on a new data directory, for the time of a ``with``. Every run makes a dataset of its own."""

    def __init__(self, *, data_dir: Path, serve_arguments: Sequence[str] = ()) -> None:
        _forget_settings()
        self._data_dir = data_dir
        self._server = ServerProcess(data_dir=data_dir, storage_url=None)
        self._server.arguments += serve_arguments
        self._datasets = count(1)

    def __enter__(self) -> Self:
        self._server.__enter__()
        facts = json.loads((self._data_dir / "server.json").read_text(encoding="utf-8"))
        self._process = psutil.Process(facts["pid"])
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._server.__exit__(kind, exc, tb)

    def run(self, data: Rows, streams: int, expected: RowDigest) -> Run:
        """Put all rows over so many streams at once, up to the last receipt; then read them back and compare."""
        dataset = f"{data.shape}_{next(self._datasets)}"
        clients = [timestore.connect(self._server.url) for _ in range(streams)]
        try:
            clients[0].create_dataset(dataset, data.batches[0].schema, timestamp_column=TIMESTAMP_COLUMN)
            for client in clients:
                client.describe(dataset)  # connects
            run, receipts = self._put(dataset, clients, data, streams)
            _check_receipts(receipts, data)
            _check_rows(clients[0], dataset, data, expected)
        finally:
            for client in clients:
                client.close()
        return run

    def _put(self, dataset: str, clients: list[Client], data: Rows, streams: int) -> tuple[Run, list[Receipt]]:
        def append(job: tuple[Client, list[pa.RecordBatch]]) -> Receipt:
            client, batches = job
            return client.append(dataset, pa.RecordBatchReader.from_batches(batches[0].schema, batches))

        jobs = list(zip(clients, deal(data.batches, streams), strict=True))
        cpu_before = self._cpu_s()
        with PeakMemory(self._process) as memory:
            seconds, receipts = timed_in_parallel(append, jobs)
        run = Run(
            seconds=seconds,
            cpu_s=self._cpu_s() - cpu_before,
            rss_before_bytes=memory.before_bytes,
            rss_peak_bytes=memory.peak_bytes,
        )
        return run, receipts

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


class PeakMemory:
    """Samples the resident memory of a process, without its children, for the time of a ``with``."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="bench-memory", daemon=True)
        self.before_bytes = self.peak_bytes = self._resident()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_INTERVAL_S):
            self.peak_bytes = max(self.peak_bytes, self._resident())

    def _resident(self) -> int:
        try:
            return int(self._process.memory_info().rss)
        except psutil.Error:
            return 0  # the server died; the put says so


def _check_receipts(receipts: list[Receipt], data: Rows) -> None:
    rows = sum(receipt.rows for receipt in receipts)
    check(rows == data.rows, f"the receipts are for {rows:,} of {data.rows:,} rows")
    check(not any(receipt.replayed for receipt in receipts), "a put was replayed: nothing new was written")


def _check_rows(client: Client, dataset: str, data: Rows, expected: RowDigest) -> None:
    found = RowDigest.of(client.read(dataset).to_batches(), data.columns)
    check(found == expected, f"{dataset}: read back {found}; sent {expected}")


def _forget_settings() -> None:
    """Keep the user's own server out of this: its settings could name a catalog and storage that are in use."""
    for name in [name for name in os.environ if name.upper().startswith("TIMESTORE_")]:
        del os.environ[name]
