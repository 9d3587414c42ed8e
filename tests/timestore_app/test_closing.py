"""How the parts of a server are stopped."""

from __future__ import annotations

import threading

from timestore_app.closing import OpenParts, within


def test_the_last_that_was_started_is_stopped_first() -> None:
    """Parts stop in the reverse order of their start, once, and one that fails keeps none of the others from it."""
    parts, stopped = OpenParts(), list[str]()

    def stop(name: str) -> None:
        stopped.append(name)
        if name == "door":
            raise OSError("it is stuck")

    for name in ("catalog", "writers", "door", "uploads"):
        parts.on_close(name, lambda name=name: stop(name))  # type: ignore[misc]
    parts.close()
    parts.close()
    assert stopped == ["uploads", "door", "writers", "catalog"]


def test_what_hangs_is_not_waited_for() -> None:
    """A part that takes longer than it may is left, and goes on for itself."""
    goes_on, ended = threading.Event(), threading.Event()

    def hang() -> None:
        goes_on.wait()
        ended.set()

    within(0.0, hang, name="hangs")
    assert not ended.is_set()
    goes_on.set()
    assert ended.wait(10.0)
