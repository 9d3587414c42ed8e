"""Connections whose Postgres has fallen silent: after a while they are broken, so that nobody waits for ever.

TCP notices a peer that is gone. It does not notice one that is there and answers nothing: a stopped process, or a proxy
that has lost its other side. The driver waits for such an answer without end.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

LONGEST_LOOK_S = 0.5


class Patience:
    """Knows who waits for an answer, and breaks what has taken too long. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[object, tuple[float, psycopg.Connection[Any]]] = {}
        self._ended = threading.Event()

    def open(self) -> None:
        threading.Thread(target=self._run, name="catalog-patience", daemon=True).start()

    def close(self) -> None:
        self._ended.set()

    @contextmanager
    def limited(self, connection: psycopg.Connection[Any], limit_s: float) -> Iterator[None]:
        """Break the connection if what is done here takes longer: it then fails as if the network had broken."""
        wait = object()
        with self._lock:
            self._waits[wait] = (time.monotonic() + limit_s, connection)
        try:
            yield
        finally:
            with self._lock:
                self._waits.pop(wait, None)

    def _run(self) -> None:
        while not self._ended.wait(LONGEST_LOOK_S):
            self._break_late(time.monotonic())

    def _break_late(self, now: float) -> None:
        # Under the lock, so that none of them ends, and its descriptor becomes another's, while it is broken.
        with self._lock:
            late = [wait for wait, (deadline, _) in self._waits.items() if deadline <= now]
            for wait in late:
                _, connection = self._waits.pop(wait)
                _shut_down(connection)


def _shut_down(connection: psycopg.Connection[Any]) -> None:
    """End both directions; whoever waits for an answer hears of it. The connection keeps its descriptor."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)
