"""The writers: a fixed number of threads, each with a DuckDB instance of its own.

A thread is given only work it can finish alone, a complete chunk, never a client's stream. How much can queue is
bounded by the memory budget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from writers.data_file import DuckDBWriter


class WriterPool:
    """Runs jobs on writer threads. Thread safe."""

    def __init__(
        self, *, threads: int, memory_limit_bytes: int, keep_bytes: int, staging: Path, storage_version: str
    ) -> None:
        self._memory_limit_bytes = memory_limit_bytes  # of each DuckDB instance
        self._keep_bytes = keep_bytes  # while the process has less, it need not give free memory back
        self._staging = staging
        self._storage_version = storage_version
        self._local = threading.local()
        self._writers: list[DuckDBWriter] = []
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="writer")
        self._lock = threading.Lock()
        self.threads = threads
        self.busy = 0  # threads with a job
        self.waiting = 0  # jobs without a thread

    def warm_up(self) -> None:
        """Write and remove a tiny file, so that no put meets a wrong setting; raises ``unsupported``."""
        self._executor.submit(lambda: self._writer().probe(self._staging / "probe.duckdb")).result()

    def submit(self, job: Callable[[DuckDBWriter], None]) -> None:
        """Queue a job. It must not raise: it reports to whoever waits for it."""
        self._count(waiting=1)
        try:
            self._executor.submit(self._run, job)
        except RuntimeError:  # the pool is closed
            self._count(waiting=-1)
            raise

    def close(self) -> None:
        """Finish what is queued, then close every instance."""
        self._executor.shutdown(wait=True)
        for writer in self._writers:
            writer.close()

    def _run(self, job: Callable[[DuckDBWriter], None]) -> None:
        self._count(waiting=-1, busy=1)
        try:
            job(self._writer())
        finally:
            self._count(busy=-1)

    def _count(self, *, waiting: int = 0, busy: int = 0) -> None:
        with self._lock:
            self.waiting += waiting
            self.busy += busy

    def _writer(self) -> DuckDBWriter:
        writer: DuckDBWriter | None = getattr(self._local, "writer", None)
        if writer is None:
            writer = self._local.writer = DuckDBWriter(
                memory_limit_bytes=self._memory_limit_bytes,
                keep_bytes=self._keep_bytes,
                temporary_directory=self._staging / f"duckdb-{threading.get_ident()}",
                storage_version=self._storage_version,
            )
            self._writers.append(writer)
        return writer
