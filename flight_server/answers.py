"""One wrapper around every RPC: whatever happens inside leaves as a typed Flight error, and is logged.

Only ``Flight*Error`` may leave a handler: pyarrow sends anything else to the client with its whole traceback and
without ``extra_info``.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.flight as flight
import structlog

from timestore.errors import GrpcCode, InternalError, TimestoreError, error
from timestore.wire_errors import encode_status

log = structlog.get_logger()

_FLIGHT_ERRORS: dict[GrpcCode, type[flight.FlightError]] = {
    GrpcCode.CANCELLED: flight.FlightCancelledError,
    GrpcCode.UNKNOWN: flight.FlightServerError,
    GrpcCode.DEADLINE_EXCEEDED: flight.FlightTimedOutError,
    GrpcCode.PERMISSION_DENIED: flight.FlightUnauthorizedError,
    GrpcCode.INTERNAL: flight.FlightInternalError,
    GrpcCode.UNAVAILABLE: flight.FlightUnavailableError,
    GrpcCode.UNAUTHENTICATED: flight.FlightUnauthenticatedError,
}


@contextmanager
def answering(rpc: str) -> Iterator[None]:
    """Translate and log what an RPC raises."""
    try:
        yield
    except InternalError as failure:
        raise to_flight_error(_reported(rpc, failure, failure.message)) from None
    except TimestoreError as failure:
        # The message may show row values, which are the client's to see and not the log's.
        log.info("rpc.refused", rpc=rpc, kind=failure.kind)
        _let_go(failure)
        raise to_flight_error(failure) from None
    except Exception as exc:  # noqa: BLE001  # the top of an RPC: it is logged, and answered as `internal`
        raise to_flight_error(_reported(rpc, exc, "something unforeseen went wrong")) from None


def _reported(rpc: str, failure: Exception, message: str) -> TimestoreError:
    """Log a defect with all there is to know, and return what the client hears of it: enough to find it in the log."""
    error_id = secrets.token_hex(8)
    log.error("rpc.failed", rpc=rpc, error_id=error_id, exc_info=failure)
    return InternalError(
        "internal", f"{message}; the server's log has it as error {error_id}", details={"error_id": error_id}
    )


def to_flight_error(failure: TimestoreError) -> flight.FlightError:
    """Build the Flight error of a failure, its details in ``extra_info``."""
    return _FLIGHT_ERRORS[failure.spec.grpc](str(failure), encode_status(failure))


def _let_go(failure: TimestoreError) -> None:
    """Give back what was refused for its size, of which Arrow alone knows before it is in memory.

    It lives in the frames that refused it, and then in Arrow's allocator, which keeps freed memory for its next use.
    """
    if failure.kind == "batch_too_large":
        traceback.clear_frames(failure.__traceback__)
        pa.default_memory_pool().release_unused()


@contextmanager
def answering_untranslated(rpc: str) -> Iterator[None]:
    """Answer like ``answering`` where pyarrow does not translate Flight's errors, as in ``get_schema``.

    What is raised there goes to the client with its traceback, unless that cannot be formatted. Kind and message arrive
    in the text of the error; ``extra_info`` cannot.
    """
    try:
        with answering(rpc):
            yield
    except flight.FlightError as exc:
        raise RefusedError(str(exc)) from None


class RefusedError(Exception):
    """An error of which pyarrow tells no more than message and class: ``traceback`` fails on it."""

    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]
        raise AttributeError("what is underneath is not for the client")


@contextmanager
def reading_stream() -> Iterator[None]:
    """Turn what Arrow raises on a stream that is not valid IPC into ``batch_invalid``."""
    try:
        yield
    except (pa.ArrowException, flight.FlightError, OSError, ValueError) as exc:
        raise error("batch_invalid", f"the stream is not valid Arrow IPC: {exc}") from exc
