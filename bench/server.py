"""A real ``timestore serve`` in a process of its own, and what it costs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bench.measuring import cpu_of_tree_s
from timestore_app.demo.server_process import ServerProcess


class Server:
    """A server on a data directory, for the time of a ``with``. A second ``with`` starts it again on the same one."""

    def __init__(
        self, *, data_dir: Path, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._data_dir = data_dir
        self._environment = environment or {}
        self._process = ServerProcess(data_dir=data_dir, storage_url=None)
        self._process.arguments += arguments

    def __enter__(self) -> Self:
        before = dict(os.environ)
        os.environ.update(self._environment)  # which the process takes along
        try:
            self._process.__enter__()
        finally:
            os.environ.clear()
            os.environ.update(before)
        facts = json.loads((self._data_dir / "server.json").read_text(encoding="utf-8"))
        self.process = psutil.Process(facts["pid"])
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._process.__exit__(kind, exc, tb)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._process.url

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far, those of its Postgres included."""
        return cpu_of_tree_s(self.process)

    @property
    def data(self) -> Path:
        """Where its data files are, if they are on this disk."""
        return self._data_dir / "data"

    @property
    def disk_bytes(self) -> int:
        """What its data files take on disk."""
        files = self.data.rglob("*.duckdb")
        return sum(path.stat().st_blocks * 512 for path in files)


def forget_settings() -> None:
    """Keep the user's own server out of this: its settings could name a catalog and storage that are in use."""
    for name in [name for name in os.environ if name.upper().startswith("TIMESTORE_")]:
        del os.environ[name]
