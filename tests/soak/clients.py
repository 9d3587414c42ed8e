"""The client processes: started, listened to, killed in the middle of anything, and replaced."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.fixtures.server import same_user_environment
from tests.soak.book import Book
from tests.soak.events import Stage, Turn, decode

CLIENTS = 3
THREADS = 3
END_TIMEOUT_S = 90.0


class Client:
    """One client process after another, under one name."""

    def __init__(self, *, name: str, book: Book, stage: Path, data_dirs: Sequence[Path]) -> None:
        self._name = name
        self._book = book
        self._stage = stage
        self._data_dirs = data_dirs
        self._lives = 0
        self._turns: dict[int, int] = {}
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None

    def start(self) -> None:
        """Begin a new life, which first repeats what the one before left in doubt."""
        stage = Stage.from_text(self._stage.read_text())
        part = {
            "name": f"{self._name}.{self._lives}",
            "threads": THREADS,
            "data_dirs": [str(path) for path in self._data_dirs],
            "stage": str(self._stage),
            "in_doubt": [
                (kind, dataset, key, put)
                for kind, dataset in stage.datasets.items()
                for put, key in self._book.in_doubt(dataset).items()
                if put.startswith(f"put-{self._name}.")
            ],
        }
        self._lives += 1
        self._turns = dict.fromkeys(range(THREADS), -1)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=same_user_environment(),
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), name=self._name, daemon=True)
        self._listener.start()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(part) + "\n")
        self._process.stdin.close()

    def has_seen(self, stage: int) -> bool:
        """Say whether whatever was begun at an earlier stage has ended, one way or the other."""
        return self._process is None or all(seen >= stage for seen in self._turns.values())

    def kill(self) -> None:
        """Kill -9, and hear what it told until then."""
        if self._process is not None and self._listener is not None:
            self._process.kill()
            self._process.wait()
            self._listener.join()
            self._process = None

    def wait(self) -> int | None:
        """Wait until it has ended by itself; return its exit code, None if it did not in time and was killed."""
        if self._process is None or self._listener is None:
            return 0
        try:
            code = self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self._listener.join()
        return code

    @property
    def ended(self) -> bool:
        """Whether it has ended although nobody killed it."""
        return self._process is not None and self._process.poll() is not None

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if not line.endswith("\n"):
                    return  # it died writing this
                event = decode(line)
                if isinstance(event, Turn):
                    self._turns[event.thread] = event.stage
                else:
                    self._book.hear(event)


def some_clients(
    *, seed: int, book: Book, stage: Path, data_dirs: Sequence[Path], count: int = CLIENTS
) -> list[Client]:
    """Return clients with names that nobody else has."""
    names = random.Random(seed)
    return [
        Client(name=f"{names.getrandbits(32):08x}", book=book, stage=stage, data_dirs=data_dirs) for _ in range(count)
    ]
