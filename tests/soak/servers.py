"""Calls to any of several servers that die and come back at other ports."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import timestore
from timestore.errors import RetryableError

T = TypeVar("T")

PAUSE_S = 0.1


class Servers:
    """The servers that run in some data directories. For one thread."""

    def __init__(self, data_dirs: Sequence[Path], *, dice: random.Random) -> None:
        self._data_dirs = data_dirs
        self._dice = dice
        self._clients: dict[str, timestore.Client] = {}

    def call(self, work: Callable[[timestore.Client], T], *, deadline_s: float) -> T:
        """Do something with a server, and with another when that fails for no fault of the call.

        After ``deadline_s`` the last error is raised.
        """
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                return work(self.any())
            except RetryableError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(self._dice.uniform(PAUSE_S / 2, PAUSE_S))

    def as_one(self, *, deadline_s: float) -> timestore.Client:
        """Return what looks like a client of one server that is always there: every call of it is a ``call``."""
        return cast(timestore.Client, _AsOne(self, deadline_s))

    def any(self) -> timestore.Client:
        """Return a client of one of them, dead or alive."""
        url = self.url()
        if url not in self._clients:
            if len(self._clients) > 2 * len(self._data_dirs):  # most are of servers that are gone
                self.close()
            self._clients[url] = timestore.connect(url, retries=False)
        return self._clients[url]

    def url(self) -> str:
        """Return where one of them listens, or did; raises ``unreachable`` where none has yet."""
        try:
            facts = json.loads((self._dice.choice(self._data_dirs) / "server.json").read_text())
        except (OSError, ValueError) as exc:
            raise RetryableError("unreachable", "the server has not said yet where it listens") from exc
        return str(facts["url"])

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


class _AsOne:
    """Passes every method on to some server."""

    def __init__(self, servers: Servers, deadline_s: float) -> None:
        self._servers = servers
        self._deadline_s = deadline_s

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            return self._servers.call(
                lambda client: getattr(client, method)(*arguments, **options), deadline_s=self._deadline_s
            )

        return call
