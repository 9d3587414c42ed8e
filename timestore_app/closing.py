"""Stopping a server's parts: in the reverse order of their start, and no part for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

OnClose = Callable[[str, Callable[[], object]], None]  # a part's name, and how it is closed

log = structlog.get_logger()


class OpenParts:
    """What has been started and how each of it is stopped."""

    def __init__(self) -> None:
        self._undo: list[tuple[str, Callable[[], object]]] = []

    def on_close(self, part: str, undo: Callable[[], object]) -> None:
        self._undo.append((part, undo))

    def close(self) -> None:
        """Stop everything. What fails to stop does not keep the rest from it."""
        while self._undo:
            name, undo = self._undo.pop()
            try:
                undo()
            except Exception:  # shutting down goes on
                log.exception("stop.failed", part=name)


def within(timeout_s: float, work: Callable[[], object], *, name: str) -> None:
    """Do something, and do not wait for it longer than that."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    thread.join(timeout_s)
