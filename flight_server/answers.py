"""One wrapper around every RPC: whatever happens inside leaves as a typed Flight error, and is logged.

Only ``Flight*Error`` may leave a handler: pyarrow sends anything else to the client with its whole traceback and
without ``extra_info``.
"""

from __future__ import annotations

import secrets
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
    except TimestoreError as failure:
        # The message may show row values, which are the client's to see and not the log's.
        log.info("rpc.refused", rpc=rpc, kind=failure.kind)
        raise to_flight_error(failure) from None
    except Exception:
        error_id = secrets.token_hex(8)
        log.exception("rpc.failed", rpc=rpc, error_id=error_id)
        unforeseen = InternalError(
            "internal",
            f"something unforeseen went wrong; the server's log has it as error {error_id}",
            details={"error_id": error_id},
        )
        raise to_flight_error(unforeseen) from None


def to_flight_error(failure: TimestoreError) -> flight.FlightError:
    """Build the Flight error of a failure, its details in ``extra_info``."""
    return _FLIGHT_ERRORS[failure.spec.grpc](str(failure), encode_status(failure))


@contextmanager
def reading_stream() -> Iterator[None]:
    """Turn what Arrow raises on a stream that is not valid IPC into ``batch_invalid``."""
    try:
        yield
    except (pa.ArrowException, flight.FlightError, OSError, ValueError) as exc:
        raise error("batch_invalid", f"the stream is not valid Arrow IPC: {exc}") from exc
