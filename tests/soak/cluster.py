"""Three servers on one catalog and one storage, each behind a bad network of its own, and what can happen to them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psutil

from catalog.connections import Connections
from catalog.embedded import EmbeddedPostgres
from catalog.lifecycle import Lifecycle
from storage.local import LocalStore
from storage.targets import Targets
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.server import ServerProcess, wait_until
from tests.soak.book import Report
from tests.soak.servers import Servers
from timestore.errors import TimestoreError
from writers.housekeeping import Housekeeping

SERVERS = 3
LEASE_S = 5
SETTINGS = ("--lease-s", str(LEASE_S), "--memory-budget", "256MiB", "--writer-threads", "1", "--log-level", "warning")
SCHEMA = "timestore"
COMMIT = b"SELECT commit_appends("
START_PATIENCE_S = 120.0
CATALOG_PATIENCE_S = 30.0
AT_ONCE = timedelta(0)


class Server:
    """One server and its way to Postgres. It is started again whenever it was killed."""

    def __init__(self, *, data_dir: Path, storage: Path, dsn: str, violation: Report) -> None:
        self.proxy = PostgresProxy(dsn)
        self.data_dir = data_dir
        arguments = (
            "--catalog-dsn",
            self.proxy.dsn,
            "--catalog-schema",
            SCHEMA,
            "--storage-url",
            str(storage),
            *SETTINGS,
        )
        self._process = ServerProcess(data_dir, *arguments, log=data_dir.with_suffix(".log"))
        self._violation = violation
        self._starting: threading.Thread | None = None

    def start(self) -> None:
        """Start it in the background, again and again: it ends by itself only where its catalog is away."""
        self._starting = threading.Thread(target=self._start, name=f"start of {self.data_dir.name}", daemon=True)
        self._starting.start()

    @property
    def is_starting(self) -> bool:
        """Whether it does not answer yet."""
        self.wait(0)
        return self._starting is not None

    @property
    def is_up(self) -> bool:
        """Whether it has come up, and nothing has ended it since."""
        return not self.is_starting and self._process.process is not None and self._process.process.poll() is None

    def wait(self, timeout_s: float) -> None:
        """Wait until it answers, at most so long."""
        if self._starting is not None:
            self._starting.join(timeout_s)
            if not self._starting.is_alive():
                self._starting = None

    def memory_bytes(self) -> int:
        """Return what it holds in memory."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def kill(self) -> None:
        """Kill -9."""
        self._process.kill()

    def terminate(self) -> None:
        """SIGTERM; it must end in good order."""
        if (code := self._process.terminate()) != 0:
            self._violation(f"{self.data_dir.name} ended with code {code} after SIGTERM")

    def close(self) -> None:
        """Leave nothing running."""
        self._process.stop()
        self.proxy.close()

    def _start(self) -> None:
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                self._process.start()
                return
            except AssertionError as exc:
                self._process.stop()
                if time.monotonic() > deadline:
                    self._violation(f"{self.data_dir.name} does not start: {exc}")
                    return


class Cluster:
    """Everything that runs. Belongs to the main thread, as Postgres does."""

    def __init__(self, *, directory: Path, violation: Report) -> None:
        self._postgres = EmbeddedPostgres(directory=directory / "postgres")
        self._directory = directory
        self._violation = violation
        self.storage = directory / "storage"
        self.servers: list[Server] = []

    def open(self) -> None:
        """Start everything; return when all servers answer."""
        self._postgres.start()
        for number in range(SERVERS):
            data_dir = self._directory / f"server-{number}"
            server = Server(data_dir=data_dir, storage=self.storage, dsn=self._postgres.dsn, violation=self._violation)
            self.servers.append(server)
            server.start()
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Wait until all servers have come back."""
        for server in self.servers:
            server.wait(START_PATIENCE_S)

    def servers_for(self, dice: random.Random) -> Servers:
        """Return a way to call any of the servers, for one thread."""
        return Servers([server.data_dir for server in self.servers], dice=dice)

    def kill_postgres(self) -> None:
        """Kill -9 of the postmaster, then start it again."""
        [postgres] = [child for child in psutil.Process().children() if child.name() == "postgres"]
        postgres.kill()
        wait_until(lambda: self._postgres.exit_code() is not None)
        self._postgres.start()
        for server in self.servers:
            server.proxy.follow(self._postgres.dsn)

    @contextmanager
    def housekeeping(self) -> Iterator[tuple[Connections, Housekeeping]]:
        """Give what does everything that is due where no retention is left and no lease: the harshest there can be."""
        with Connections(dsn=lambda: self._postgres.dsn, schema=SCHEMA) as connections:
            connections.open(timeout_s=CATALOG_PATIENCE_S)
            yield (
                connections,
                Housekeeping(
                    lifecycle=Lifecycle(connections=connections),
                    targets=Targets(default=LocalStore(root=self.storage)),
                    history_retention=AT_ONCE,
                    ticket_lifetime=AT_ONCE,
                    lease=AT_ONCE,
                ),
            )

    def delete_what_is_due(self) -> None:
        """Keep house once; where the catalog is away, there is a next time."""
        with suppress(TimestoreError), self.housekeeping() as (_, housekeeping):
            housekeeping.run()

    def close(self) -> None:
        """Leave nothing running."""
        for server in self.servers:
            server.wait(START_PATIENCE_S)
            server.close()
        self._postgres.stop()
