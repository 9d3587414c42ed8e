"""What goes wrong, one thing after another, in an order that the seed decides. Every kind comes up again and again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from tests.soak.book import Book, Report
from tests.soak.clients import Client
from tests.soak.cluster import COMMIT, Cluster, Server

PAUSE_S = (0.2, 2.0)
LATER_ROUNDS = 3  # then what hits everybody at once is rarer than the rest
SILENCE_S = (0.2, 8.0)  # longer than a lease, at times


class Faults:
    """Belongs to the main thread, as Postgres does."""

    def __init__(
        self, *, cluster: Cluster, clients: Sequence[Client], book: Book, seed: int, violation: Report
    ) -> None:
        self._cluster = cluster
        self._clients = clients
        self._book = book
        self._violation = violation
        self._dice = random.Random(f"faults {seed}")
        self._deck: list[Callable[[], None]] = []
        self._rounds = 1  # at first, so that a short run has something of each

    def run(self, seconds: float) -> None:
        """Do harm for so long."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(left_s, self._dice.uniform(*PAUSE_S)))
            self._see_who_lives()
            self._draw()()

    def _draw(self) -> Callable[[], None]:
        if not self._deck:
            often = (self._kill_server, self._kill_client, self._cut_all, self._lose_answer, self._lose_statement)
            self._deck = [*often * self._rounds, self._fall_silent, self._kill_postgres]
            self._dice.shuffle(self._deck)
            self._rounds = LATER_ROUNDS
        return self._deck.pop()

    def _see_who_lives(self) -> None:
        """Nobody may end by itself."""
        for server in self._cluster.servers:
            if not server.is_starting and not server.is_up:
                self._violation(f"{server.data_dir.name} ended by itself")
                server.start()
        for client in self._clients:
            if client.ended:
                self._violation("a client ended by itself")
                client.kill()
                client.start()

    def _kill_server(self) -> None:
        if (server := self._one_up()) is not None:
            self._count("kill -9 of a server")
            server.kill()
            server.start()

    def _kill_client(self) -> None:
        self._count("kill -9 of a client")
        client = self._dice.choice(self._clients)
        client.kill()
        client.start()

    def _kill_postgres(self) -> None:
        self._count("kill -9 of Postgres")
        self._cluster.kill_postgres()

    def _cut_all(self) -> None:
        self._count("all connections of a server to the catalog cut")
        self._dice.choice(self._cluster.servers).proxy.cut_all()

    def _lose_answer(self) -> None:
        self._count("answer of a commit lost")
        self._dice.choice(self._cluster.servers).proxy.cut_once(COMMIT, answer=True)

    def _lose_statement(self) -> None:
        self._count("commit lost on its way")
        self._dice.choice(self._cluster.servers).proxy.cut_once(COMMIT, answer=False)

    def _fall_silent(self) -> None:
        """Let a server hear nothing of its catalog for a while, and go on meanwhile."""
        self._count("catalog of a server silent")
        proxy = self._dice.choice(self._cluster.servers).proxy
        proxy.fall_silent()
        end = threading.Timer(self._dice.uniform(*SILENCE_S), proxy.talk_again)
        end.daemon = True
        end.start()

    def _one_up(self) -> Server | None:
        up = [server for server in self._cluster.servers if server.is_up]
        return self._dice.choice(up) if up else None

    def _count(self, what: str) -> None:
        self._book.counts[what] += 1
