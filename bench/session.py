"""What all parts of a run share: a folder, a Postgres, the plan, and where results go."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from bench.measuring import cpu_of_tree_s
from bench.plan import Plan
from bench.results import Recorder
from bench.server import Server
from catalog.embedded import EmbeddedPostgres


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of the harness."""

    plan: Plan
    folder: Path  # on the disk that is measured; emptied at the end
    environments: Path
    postgres: Postgres
    recorder: Recorder
    tell: Callable[[str], None]

    def new_folder(self) -> Path:
        """Make a folder that nobody has used."""
        folder = self.folder / uuid4().hex
        folder.mkdir()
        return folder

    @contextmanager
    def server(self, *arguments: str) -> Iterator[Server]:
        """Run a server on a new data directory, with the plan's arguments and these; then remove what it stored."""
        folder = self.new_folder()
        with Server(data_dir=folder / "server", arguments=(*self.plan.serve_arguments, *arguments)) as server:
            yield server
        shutil.rmtree(folder)

    def rounds(self, *, warm_up: bool = True) -> Iterator[int]:
        """Count the rounds from 1, after a round 0 that warms up and does not count."""
        repeats = self.plan.repeats
        for number in range(0 if warm_up else 1, repeats + 1):
            self.tell(f"  round {number} of {repeats}{'' if number else ' (does not count)'}")
            yield number


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A Postgres beside the servers': for peers, for commits as such, and for catalogs that are filled by hand."""

    dsn: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor seconds so far, all its processes."""
        return cpu_of_tree_s(self.process)


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """Run a Postgres with its defaults: fsync and synchronous commit are on. Belongs on the main thread."""
    before = set(psutil.Process().children())
    postgres = EmbeddedPostgres(directory=folder / "postgres")
    postgres.start()
    try:
        [process] = [
            child for child in psutil.Process().children() if child not in before and "postgres" in child.name()
        ]
        yield Postgres(dsn=postgres.dsn, process=process)
    finally:
        postgres.stop()


def in_turns(number: int, turns: Sequence[Callable[[], None]]) -> None:
    """Take all turns in an order that differs from round to round: nobody always follows the same one's writeback."""
    order = list(turns)
    random.Random(number).shuffle(order)
    for turn in order:
        turn()
