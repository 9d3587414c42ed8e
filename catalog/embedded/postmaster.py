"""Launch the server program and wait until it serves."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT

from catalog.embedded.child import Surroundings
from catalog.embedded.deadline import Deadline
from catalog.embedded.errors import StartFailedError
from catalog.embedded.layout import Layout
from catalog.embedded.pid_file import read_pid_file

HOST = "127.0.0.1"
_LAST_WORDS_S = 5.0

_SETTINGS = {
    "listen_addresses": HOST,
    # No socket file: its path may have 107 bytes only, and data directories are often deeper.
    "unix_socket_directories": "",
    # A receipt is a promise: never trade these for speed, and let no ALTER SYSTEM do it.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # Small: many short transactions on a catalog that fits in the page cache.
    "max_connections": "64",
    "shared_buffers": "64MB",
    "max_wal_senders": "2",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",  # no I/O worker processes
    "jit": "off",
    # Fewer full pages in the WAL, and still only seconds of replay after a crash.
    "checkpoint_timeout": "15min",
    "min_wal_size": "64MB",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    # Errors of statements go to the client, which logs them; their details can hold row values.
    "log_timezone": "UTC",
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_destination": "stderr",
    "logging_collector": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """A server program that was ready once, and the port it listens on."""

    process: subprocess.Popen[bytes]
    port: int


def launch(
    layout: Layout, *, postgres: Path, surroundings: Surroundings, preferred_port: int | None, deadline: Deadline
) -> Postmaster:
    """Start Postgres and wait until it accepts connections. Call it under the lock.

    ``preferred_port`` is tried first; if another program takes a port before Postgres does, the next one is tried.

    :raises StartFailedError: it ended for another reason, or was not ready by the deadline. Nothing runs then.
    """
    for port in _candidate_ports(preferred=preferred_port):
        command = _command(postgres, cluster=layout.cluster, port=port)
        process = surroundings.spawn(command, death_signal=SIGINT)  # SIGINT: fast shutdown, as in `end`
        try:
            ready = _await_ready(process, pid_file=layout.pid_file, deadline=deadline)
        except BaseException:
            end(process, patience_s=0.0)
            raise
        if ready:
            return Postmaster(process=process, port=port)
        if not _taken(port):
            break
    raise StartFailedError(f"Postgres ended with code {process.returncode} while starting.")


def end(process: subprocess.Popen[bytes], *, patience_s: float) -> None:
    """Stop Postgres: fast shutdown, then without a checkpoint, then by force. Return when it is reaped."""
    for request, wait_s in ((SIGINT, patience_s), (SIGQUIT, _LAST_WORDS_S), (SIGKILL, None)):
        process.send_signal(request)
        try:
            process.wait(timeout=wait_s)
            return
        except subprocess.TimeoutExpired:
            continue


def _command(postgres: Path, *, cluster: Path, port: int) -> list[str | Path]:
    settings = {**_SETTINGS, "port": str(port)}
    return [postgres, "-D", cluster, *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))]


def _await_ready(process: subprocess.Popen[bytes], *, pid_file: Path, deadline: Deadline) -> bool:
    """Return True once it is ready, False if it ended."""
    while process.poll() is None:
        content = read_pid_file(pid_file)
        # The pid matters: a file of an earlier Postgres may say `ready` as well.
        if content is not None and content.pid == process.pid and content.state == "ready":
            return True
        if deadline.passed():
            raise StartFailedError("Postgres was not ready by the deadline.")
        deadline.pause()
    return False


def _candidate_ports(*, preferred: int | None) -> Iterator[int]:
    if preferred is not None:
        yield preferred
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        yield port


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Postgres does
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            return exc.errno == errno.EADDRINUSE
    return False
