"""Why a server may commit and delete nothing, once there is a reason."""

from __future__ import annotations

from timestore.errors import TimestoreError, error


class Fence:
    """Open at first, or closed for good: what closes it is not mended while the server runs. Thread safe."""

    def __init__(self, reason: TimestoreError | None = None) -> None:
        self._reason = reason

    @property
    def is_open(self) -> bool:
        return self._reason is None

    def close(self, reason: TimestoreError) -> None:
        """Let nothing through any more, for a reason of kind ``fenced``; the first one stays."""
        self._reason = self._reason or reason

    def check(self) -> None:
        """Raise the reason, if there is one."""
        if self._reason is not None:
            raise error(self._reason.kind, self._reason.message, details=self._reason.details)
