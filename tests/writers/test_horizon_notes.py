"""When the horizon is noted: at once after a commit, and not again before an interval is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from tests.fixtures.server import wait_until
from writers.horizon_notes import HorizonNotes


class _Notes:
    """Remembers which storage targets it was asked to note, each time; None for all."""

    def __init__(self) -> None:
        self.asked: list[set[str] | None] = []

    def __call__(self, storages: Iterable[str] | None) -> None:
        self.asked.append(None if storages is None else set(storages))

    @property
    def count(self) -> int:
        return len(self.asked)


def test_a_busy_server_notes_once_in_an_interval() -> None:
    """The first commit is noted at once, whatever comes before the interval is over not by itself."""
    notes = _Notes()
    horizon = HorizonNotes(note=notes, interval_s=threading.TIMEOUT_MAX)
    horizon.open()
    for _ in range(3):
        horizon.due("default")
        wait_until(lambda: notes.count == 1)
    began = time.monotonic()
    horizon.close()

    assert notes.count == 1
    assert time.monotonic() - began < 5  # also in the middle of an interval


def test_what_came_in_an_interval_is_noted_after_it() -> None:
    """A commit that had to wait for the end of an interval is noted then, and nothing more without another."""
    notes = _Notes()
    horizon = HorizonNotes(note=notes, interval_s=0.01)
    horizon.open()
    wait_until(lambda: notes.count == 1)
    for count in (2, 3, 4):
        horizon.due("default")
        wait_until(lambda count=count: notes.count == count)  # type: ignore[misc]
    horizon.close()

    assert notes.count == 4


def test_a_server_that_starts_notes_all() -> None:
    """A server that starts notes what was committed last before a crash, in whatever target."""
    notes = _Notes()
    horizon = HorizonNotes(note=notes, interval_s=threading.TIMEOUT_MAX)
    assert notes.count == 0
    horizon.open()
    wait_until(lambda: notes.count == 1)
    horizon.close()

    assert notes.asked == [None]


def test_only_targets_with_commits_are_noted() -> None:
    """A commit in one target asks nothing of the others, which may be away."""
    notes = _Notes()
    horizon = HorizonNotes(note=notes, interval_s=0.01)
    horizon.open()
    wait_until(lambda: notes.count == 1)
    horizon.due("archive")
    wait_until(lambda: notes.count == 2)
    horizon.close()

    assert notes.asked == [None, {"archive"}]
