"""``timestore serve`` with a trap set: it stops at one durable step, says so, and waits for what is done to it.

python -m tests.chaos.trap DIRECTORY serve ...   # DIRECTORY has the trap: see ``Trap``
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from storage import objects, parts
from tests.chaos.steps import (
    FUNCTIONS_OF_OS,
    METHODS_OF_BLOBS,
    METHODS_OF_PATH,
    PACKAGES,
    call_step,
    request_steps,
    statement_steps,
)
from timestore_app import background, writing_side
from timestore_app.cli import main
from writers.housekeeping import Housekeeping

PATIENCE_S = 60.0
EXIT_CODE = 70
STORE_VARIABLE = "CHAOS_STORE"  # s3 or azure, where data files go to one
SMALL_PART_BYTES = 5 << 20  # the smallest that S3 takes
MOMENTS = ("before", "after")


class Trap:
    """A directory by which a trial and a server talk.

    The trial writes ``set`` with a step, a moment and ``wait`` or ``exit``, one to a line; the server renames it to
    ``sprung`` when it is there, and then exits without a word, or waits for the file ``go``. While there is a file
    ``record``, the server adds each step that it reaches. Housekeeping, which comes once a minute, is done five times a
    second, as if all retentions had passed, but only while there is a file ``hasten``.
    """

    def __init__(self, directory: Path) -> None:
        self._set, self._sprung = directory / "set", directory / "sprung"
        self._go, self._record = directory / "go", directory / "record"
        self._hasten = directory / "hasten"

    # The trial's side.

    def lay(self, step: str, moment: str, action: str) -> None:
        """Set the trap anew."""
        for path in (self._sprung, self._go):
            path.unlink(missing_ok=True)
        partial = self._set.with_suffix(".partial")
        partial.write_text("\n".join((step, moment, action)))
        partial.rename(self._set)

    def has_sprung(self) -> bool:
        """Whether the server is in it."""
        return self._sprung.exists()

    def take_away(self) -> None:
        """Unset the trap, and let go whoever waits in it."""
        self._set.unlink(missing_ok=True)
        self._go.touch()

    def record(self) -> None:
        """Write down the steps from now on."""
        self._record.touch()

    def recorded(self) -> set[str]:
        """Return the steps that were reached since."""
        return set(self._record.read_text().splitlines())

    def hasten(self) -> None:
        """Let housekeeping begin."""
        self._hasten.touch()

    # The server's side.

    def is_hastened(self) -> bool:
        """Whether housekeeping is due."""
        return self._hasten.exists()

    def reach(self, step: str, moment: str) -> None:
        """Stop here if the trap is set for this."""
        if self._record.exists():
            with self._record.open("a") as file:
                file.write(f"{step}\n")
        if not self._set.exists():
            return
        with suppress(FileNotFoundError):
            wanted, when, action = self._set.read_text().split("\n")
            if (step, moment) == (wanted, when):
                self._set.rename(self._sprung)
                self._spring(action)

    def _spring(self, action: str) -> None:
        if action == "exit":
            os._exit(EXIT_CODE)
        deadline = time.monotonic() + PATIENCE_S
        while not self._go.exists() and time.monotonic() < deadline:
            time.sleep(0.005)


def surround(trap: Trap) -> None:
    """Put the trap around every function that a durable step is made of."""
    for name in FUNCTIONS_OF_OS:
        _wrap(trap, os, name, f"os.{name}")
    for name in METHODS_OF_PATH:
        _wrap(trap, Path, name, f"Path.{name}")
    step_of = {text: step for step, text in statement_steps().items()}
    execute = psycopg.Connection.execute

    def trapped(self: psycopg.Connection[Any], query: Any, *args: Any, **kwargs: Any) -> Any:
        step = step_of.get(query) if isinstance(query, str) else None
        return _around(trap, step, lambda: execute(self, query, *args, **kwargs))

    psycopg.Connection.execute = trapped  # type: ignore[method-assign]


def surround_requests(trap: Trap) -> None:
    """Put the trap around the requests that change an object store, whose drivers may be missing here."""
    if os.environ.get(STORE_VARIABLE) == "s3":
        from storage import s3  # noqa: PLC0415  # servers of the other trials do without its driver

        _wrap_requests(trap, s3.S3Bucket, "_call", lambda operation: f"s3 {operation}")
    if os.environ.get(STORE_VARIABLE) == "azure":
        from azure.storage.blob.aio import BlobClient  # noqa: PLC0415

        for name in METHODS_OF_BLOBS:
            _wrap_requests(trap, BlobClient, name, lambda *_, step=f"azure {name}": step)
    vars(parts).update(PART_BYTES=SMALL_PART_BYTES)
    vars(objects).update(PART_BYTES=SMALL_PART_BYTES)


def _wrap_requests(trap: Trap, owner: Any, name: str, step_of: Callable[..., str]) -> None:
    original = getattr(owner, name)
    changing = request_steps(os.environ[STORE_VARIABLE])

    async def trapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        step = step_of(*args[:1])
        if step not in changing:
            return await original(self, *args, **kwargs)
        # On another thread: all requests of the process share this one.
        await asyncio.to_thread(trap.reach, step, "before")
        result = await original(self, *args, **kwargs)
        await asyncio.to_thread(trap.reach, step, "after")
        return result

    setattr(owner, name, trapped)


def hasten(trap: Trap) -> None:
    """Let housekeeping do now what it would do after days, when the trial says so."""

    class Hasty(Housekeeping):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments | {"history_retention": timedelta(0), "ticket_lifetime": timedelta(0)})

        def run(self) -> None:
            if trap.is_hastened():
                super().run()

    vars(writing_side).update(Housekeeping=Hasty)
    vars(background).update(HOUSEKEEPING_INTERVAL_S=0.2, HORIZON_INTERVAL_S=threading.TIMEOUT_MAX)


def _wrap(trap: Trap, owner: Any, name: str, called: str) -> None:
    original = getattr(owner, name)

    def trapped(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1)
        module = str(caller.f_globals.get("__name__"))
        ours = module.partition(".")[0] in PACKAGES
        step = call_step(module, caller.f_code.co_qualname, called) if ours else None
        return _around(trap, step, lambda: original(*args, **kwargs))

    setattr(owner, name, trapped)


def _around(trap: Trap, step: str | None, call: Callable[[], Any]) -> Any:
    if step is None:
        return call()
    trap.reach(step, "before")
    result = call()
    trap.reach(step, "after")
    return result


if __name__ == "__main__":
    the_trap = Trap(Path(sys.argv.pop(1)))
    surround(the_trap)
    surround_requests(the_trap)
    hasten(the_trap)
    main()
