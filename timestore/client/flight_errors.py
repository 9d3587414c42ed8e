"""Flight's errors, turned back into the typed ones that the server raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.flight as flight

from timestore.errors import InternalError, RetryableError, TimestoreError, error
from timestore.wire_errors import decode_status


@contextmanager
def translated() -> Iterator[None]:
    """Raise a ``TimestoreError`` for every error of Flight. Keep the caller's own data source out of it."""
    try:
        yield
    except flight.FlightError as exc:
        raise to_typed(exc) from exc


def to_typed(exc: flight.FlightError) -> TimestoreError:
    """Return the error that a server sent, or name one that did not come from a Timestore server."""
    typed = decode_status(exc.extra_info) if exc.extra_info else None
    return typed or _untyped(exc)


def _untyped(exc: flight.FlightError) -> TimestoreError:
    """Name an error of the connection: of those, no server says anything."""
    message = str(exc).splitlines()[0]
    if isinstance(exc, flight.FlightUnavailableError):
        return RetryableError("unreachable", f"the server cannot be reached; is it running? ({message})")
    if isinstance(exc, flight.FlightCancelledError | flight.FlightTimedOutError):
        return error("cancelled", message)
    return InternalError("internal", message)
