"""Flight's errors, turned back into the typed ones that the server raised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.flight as flight

from timestore.errors import KINDS, InternalError, RetryableError, TimestoreError, error
from timestore.wire_errors import decode_status

# As the server's wrapper around ``get_schema`` spells it, and Arrow's addition behind.
_KIND_AND_MESSAGE = re.compile(r"\[(\w+)\] (.*?)(?:\. Detail: |\Z)", re.DOTALL)


@contextmanager
def translated() -> Iterator[None]:
    """Raise a ``TimestoreError`` for every error of Flight. Keep the caller's own data source out of it."""
    try:
        yield
    except flight.FlightError as exc:
        raise to_typed(exc) from exc


@contextmanager
def translated_text() -> Iterator[None]:
    """Raise a ``TimestoreError`` for every error of ``get_schema``, which has kind and message in its text alone."""
    try:
        with translated():
            yield
    except pa.ArrowException as exc:
        raise _from_text(str(exc)) from exc


def to_typed(exc: flight.FlightError) -> TimestoreError:
    """Return the error that a server sent, or name one that did not come from a Timestore server."""
    typed = decode_status(exc.extra_info) if exc.extra_info else None
    return typed or _untyped(exc)


def _from_text(text: str) -> TimestoreError:
    found = _KIND_AND_MESSAGE.search(text)
    if found is None or found[1] not in KINDS:
        return InternalError("internal", text.splitlines()[0])
    return error(found[1], found[2])


def _untyped(exc: flight.FlightError) -> TimestoreError:
    """Name an error of the connection: of those, no server says anything."""
    message = str(exc).splitlines()[0]
    if isinstance(exc, flight.FlightUnavailableError):
        return RetryableError("unreachable", f"the server cannot be reached; is it running? ({message})")
    if isinstance(exc, flight.FlightCancelledError | flight.FlightTimedOutError):
        return error("cancelled", message)
    return InternalError("internal", message)
