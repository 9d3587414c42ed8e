"""Run for some minutes what production has in a year: many clients, three servers, one catalog, and much that dies.

``python -m tests.soak --minutes 10`` ends with a table of what was done and what was wrong. If anything was, the
exit code is 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import structlog

from catalog.connections import Connections
from tests.fixtures.files import published_files
from tests.soak.book import Book
from tests.soak.clients import some_clients
from tests.soak.cluster import LEASE_S, Cluster
from tests.soak.faults import Faults
from tests.soak.keeper import Keeper
from writers.housekeeping import Housekeeping

HANGS_AFTER_S = 420.0  # beyond the minutes asked for: then something waits for ever, and all stacks are printed
SWEPT_WITHIN_S = 60.0
DONE_WITHIN_S = 120.0  # beyond the minutes asked for: what must have been done at least once
MAX_VIOLATIONS = 50  # told; more would tell nothing new


class Violations:
    """What was wrong. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def report(self, text: str) -> None:
        """Tell it at once, and count it."""
        with self._lock:
            self.count += 1
            if self.count <= MAX_VIOLATIONS:
                sys.stderr.write(f"VIOLATION: {text}\n")


class Soak:
    """One run in a directory of its own."""

    def __init__(self, *, directory: Path, seed: int, appends_per_dataset: int, until: Sequence[str] = ()) -> None:
        self._violations = Violations()
        self._violation = self._violations.report
        self._book = Book(violation=self._violation)
        self._cluster = Cluster(directory=directory, violation=self._violation)
        self._directory = directory
        self._seed = seed
        self._appends_per_dataset = appends_per_dataset
        self._until = until

    def run(self, seconds: float) -> bool:
        """Do it all; return whether nothing was wrong."""
        try:
            self._cluster.open()
            files = self._live(seconds)
            self._end(files)
        finally:
            self._cluster.close()
        self._print_table()
        return self._violations.count == 0

    def _live(self, seconds: float) -> set[Path]:
        """Let clients, keeper and faults loose; then check everything in quiet, and return the files there must be."""
        stage_file = self._directory / "stage.json"
        clients = some_clients(
            seed=self._seed,
            book=self._book,
            stage=stage_file,
            data_dirs=[server.data_dir for server in self._cluster.servers],
        )
        keeper = Keeper(
            book=self._book,
            cluster=self._cluster,
            clients=clients,
            stage_file=stage_file,
            seed=self._seed,
            appends_per_dataset=self._appends_per_dataset,
            violation=self._violation,
        )
        faults = Faults(
            cluster=self._cluster, clients=clients, book=self._book, seed=self._seed, violation=self._violation
        )
        ended = threading.Event()
        watch = threading.Thread(target=self._keep, args=(keeper, ended), name="keeper", daemon=True)
        try:
            for client in clients:
                client.start()
            watch.start()
            faults.run(seconds)
            self._cluster.wait_until_up()
            self._wait_until_done()
            ended.set()
            watch.join()
            keeper.end_stage()
            for client in clients:
                if (code := client.wait()) != 0:
                    self._violation(f"a client ended with code {code}")
        finally:
            for client in clients:
                client.kill()
        return keeper.settle_all()

    def _wait_until_done(self) -> None:
        """Let clients go on until all that was asked for has happened: a slow machine needs longer."""
        deadline = time.monotonic() + DONE_WITHIN_S
        while not all(self._book.counts[name] for name in self._until) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _keep(self, keeper: Keeper, ended: threading.Event) -> None:
        try:
            keeper.run(ended)
        except Exception as exc:  # noqa: BLE001  # the top of a thread: nothing it cannot do may go unnoticed
            self._violation(f"the keeper failed: {type(exc).__name__}: {exc}")

    def _end(self, files: set[Path]) -> None:
        """Stop all servers and sweep: then there is no file that nobody knows."""
        self._book.counts["most memory of a server, MiB"] = max(
            server.memory_bytes() >> 20 for server in self._cluster.servers
        )
        for server in self._cluster.servers:
            server.terminate()
            for path in server.data_dir.glob("staging/*"):
                self._violation(f"{path} was left in staging")
        self._sweep()
        present = set(published_files(self._cluster.storage))
        for path in present ^ files:
            self._violation(f"{path} is {'known to nobody' if path in present else 'lost'}")

    def _sweep(self) -> None:
        """Keep house until no lease and no intent is left of all the servers that there were."""
        deadline = time.monotonic() + SWEPT_WITHIN_S
        with self._cluster.housekeeping() as (connections, housekeeping):
            while left := self._intents_after(connections, housekeeping):
                if time.monotonic() > deadline:
                    self._violation(f"{left} intents are left {SWEPT_WITHIN_S:.0f} s after all servers ended")
                    break
                time.sleep(LEASE_S / 5)
            housekeeping.run()  # files whose last slice the round before has deleted

    def _intents_after(self, connections: Connections, housekeeping: Housekeeping) -> int:
        housekeeping.run()
        with connections.connection() as connection:
            row = connection.execute("SELECT count(*) FROM intents").fetchone()
        assert row is not None  # a SELECT of one value
        return int(row[0])

    def _print_table(self) -> None:
        rows = [*sorted(self._book.counts.items()), ("violations", self._violations.count)]
        width = max(len(name) for name, _ in rows)
        for name, count in rows:
            sys.stdout.write(f"{name:<{width}}  {count:>9}\n")


def end_what_hangs() -> None:
    """Show where every thread waits, and leave nothing running."""
    sys.stderr.write("VIOLATION: the soak does not end\n")
    faulthandler.dump_traceback(all_threads=True)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(1)


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--appends-per-dataset", type=int, default=60, help="then it is checked whole and replaced")
    parser.add_argument("--until", action="append", default=[], help="go on until this line of the table is not zero")
    arguments = parser.parse_args()
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # that Postgres is away is no news here
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    hanging = threading.Timer(arguments.minutes * 60 + HANGS_AFTER_S, end_what_hangs)
    hanging.daemon = True
    hanging.start()
    directory = Path(tempfile.mkdtemp(prefix="timestore-soak-"))
    sys.stdout.write(f"{arguments.minutes:g} minutes in {directory}, seed {arguments.seed}\n")
    sys.stdout.flush()
    soak = Soak(
        directory=directory,
        seed=arguments.seed,
        appends_per_dataset=arguments.appends_per_dataset,
        until=arguments.until,
    )
    if not soak.run(arguments.minutes * 60):
        sys.stdout.write(f"look at {directory}; run again with --seed {arguments.seed}\n")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
