"""``timestore serve`` in a process of its own, as anybody would start it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
POLL_INTERVAL_S = 0.05
LOG_TAIL_LINES = 15


class ServerFailedError(Exception):
    """The server did not start, or did not stop in good order; the message ends with its last log lines."""


class ServerProcess:
    """A server of our own: started by ``with``, stopped at its end whatever happens."""

    def __init__(self, *, data_dir: Path, storage_url: str | None) -> None:
        self._data_dir = data_dir
        self.log_path = data_dir / "demo-server.log"
        self.arguments = ["serve", "--data-dir", str(data_dir), "--host", "127.0.0.1", "--port", "0"]
        if storage_url is not None:
            self.arguments += ["--storage-url", storage_url]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "timestore_app", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.url = self._wait_until_ready(self._process)
        except BaseException:
            self._end(self._process)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._process is not None:
            self._end(self._process)

    def stop(self) -> float:
        """Ask the server to stop, as an operator would, and return the seconds it took.

        Raises ``ServerFailedError`` unless it exits with 0.
        """
        assert self._process is not None  # only called inside `with`
        started = time.monotonic()
        code = self._end(self._process)
        if code != 0:
            raise self._failed(f"the server was asked to stop and exited with {code}, not 0")
        return time.monotonic() - started

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None:
            facts = self._server_file()
            if facts.get("pid") == process.pid:  # not the file of a server that was killed
                return str(facts["url"])
            if time.monotonic() > deadline:
                raise self._failed(f"the server was not ready after {START_TIMEOUT_S:g} s")
            time.sleep(POLL_INTERVAL_S)
        raise self._failed(f"the server did not start: it exited with {process.returncode}")

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _server_file(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((self._data_dir / "server.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts

    def _failed(self, what: str) -> ServerFailedError:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:])
        return ServerFailedError(f"{what}. The end of its log, {self.log_path}:\n{tail}")
