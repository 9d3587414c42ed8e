"""Every error a caller can meet, by what the caller should do about it.

    TimestoreError
    ├── InvalidInputError       fix the request; the same call fails again
    │   ├── NotFoundError       the named thing does not exist (yet)
    │   └── AccessDeniedError   authenticate, or ask for a grant
    ├── ConflictError           another fact already holds; look at it before going on
    ├── RetryableError          repeat the same call, with the same idempotency key
    │   └── OverloadedError     repeat it after ``retry_after_s``
    └── InternalError           report it, with the error id

The *kind* is the stable name of an error: kinds are only ever added. ``KINDS`` says for each its class, its gRPC
status, the HTTP status of the second door, and whether the same call may be repeated as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

# Errors travel in trailers, of which clients take 8 KiB: tried, a longer one loses its kind and its details. A message
# is in there three times, once with each byte that is not plain ASCII spelled as three: up to 5.7 bytes for each byte.
MAX_MESSAGE_BYTES = 1000
MAX_DETAIL_BYTES = 300


class GrpcCode(IntEnum):
    """The gRPC status codes that a Python Flight server can send."""

    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    PERMISSION_DENIED = 7
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class TimestoreError(Exception):
    """Root of all errors of Timestore.

    ``details`` are strings for programs (names, limits, actual values); ``retry_after_s`` is set for load;
    ``idempotency_key`` is set by the client on errors of an append, so that a retry can use the same one.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.message = _bounded(message, MAX_MESSAGE_BYTES)
        super().__init__(self.message)
        self.kind = kind
        self.details = {name: _bounded(str(value), MAX_DETAIL_BYTES) for name, value in (details or {}).items()}
        self.retry_after_s = retry_after_s
        self.idempotency_key: str | None = None

    def __str__(self) -> str:
        return f"[{self.kind}] {self.message}"

    @property
    def spec(self) -> KindSpec:
        """What is fixed about this error's kind; an unknown kind counts as ``internal``."""
        return KINDS.get(self.kind, KINDS["internal"])


class InvalidInputError(TimestoreError):
    """The request itself is wrong: repeating it unchanged fails again."""


class NotFoundError(InvalidInputError):
    """The named thing does not exist, or does not exist yet."""


class AccessDeniedError(InvalidInputError):
    """The caller is unknown, or may not do this."""


class ConflictError(TimestoreError):
    """Something that already holds contradicts the request."""


class RetryableError(TimestoreError):
    """Nothing is wrong with the request: repeat it with the same idempotency key."""


class OverloadedError(RetryableError):
    """The server is at a limit: repeat after ``retry_after_s``."""


class InternalError(TimestoreError):
    """A defect, or an unforeseen failure of something underneath; the log has the same error id."""


def _bounded(text: str, limit: int) -> str:
    """Cut a text that may come from a client to so many bytes of UTF-8, and escape what is not Unicode in it."""
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - 3].decode("utf-8", "ignore") + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSpec:
    """What is fixed about one kind of error."""

    error: type[TimestoreError]
    grpc: GrpcCode
    http: int
    status: str  # the canonical name of the status, as google.rpc.Code spells it
    repeatable: bool  # whether the same call may be repeated as it is


def _kinds() -> dict[str, KindSpec]:
    table: dict[str, KindSpec] = {}

    def add(
        names: str,
        error: type[TimestoreError],
        http: int,
        status: str,
        grpc: GrpcCode = GrpcCode.UNKNOWN,
        *,
        repeatable: bool = False,
    ) -> None:
        for name in names.split():
            table[name] = KindSpec(error=error, grpc=grpc, http=http, status=status, repeatable=repeatable)

    invalid = InvalidInputError
    add("descriptor_invalid name_invalid end_missing row_count_mismatch", invalid, 400, "INVALID_ARGUMENT")
    add("query_invalid", invalid, 400, "INVALID_ARGUMENT")
    add("unauthenticated", AccessDeniedError, 401, "UNAUTHENTICATED", GrpcCode.UNAUTHENTICATED)
    add("permission_denied", AccessDeniedError, 403, "PERMISSION_DENIED", GrpcCode.PERMISSION_DENIED)
    add("dataset_not_found receipt_not_found version_not_found action_unknown", NotFoundError, 404, "NOT_FOUND")
    add("storage_not_found", NotFoundError, 404, "NOT_FOUND")
    add("idempotency_conflict idempotency_abandoned dataset_exists", ConflictError, 409, "ALREADY_EXISTS")
    add("storage_exists", ConflictError, 409, "ALREADY_EXISTS")
    add("version_expired", NotFoundError, 410, "NOT_FOUND")
    add("batch_too_large too_many_windows too_many_rows dataset_full", invalid, 413, "OUT_OF_RANGE")
    add("query_too_expensive", invalid, 413, "OUT_OF_RANGE")
    add(
        "schema_mismatch type_unsupported batch_invalid timestamp_null timestamp_unordered timestamp_out_of_bounds "
        "value_not_storable",
        invalid,
        422,
        "INVALID_ARGUMENT",
    )
    retry = {"repeatable": True}
    add("overloaded", OverloadedError, 429, "RESOURCE_EXHAUSTED", GrpcCode.UNAVAILABLE, **retry)
    add("cancelled", RetryableError, 499, "CANCELLED", GrpcCode.CANCELLED, **retry)
    add("internal", InternalError, 500, "INTERNAL", GrpcCode.INTERNAL, **retry)
    add("unsupported", invalid, 501, "UNIMPLEMENTED")
    add(
        "shutting_down catalog_unavailable storage_unavailable disk_full fenced unreachable",
        RetryableError,
        503,
        "UNAVAILABLE",
        GrpcCode.UNAVAILABLE,
        **retry,
    )
    add("deadline_exceeded", RetryableError, 504, "DEADLINE_EXCEEDED", GrpcCode.DEADLINE_EXCEEDED, **retry)
    return table


KINDS: Mapping[str, KindSpec] = _kinds()


def error(
    kind: str,
    message: str,
    *,
    details: Mapping[str, object] | None = None,
    retry_after_s: float | None = None,
) -> TimestoreError:
    """Build the error of a kind, as the class that belongs to it."""
    return KINDS.get(kind, KINDS["internal"]).error(kind, message, details=details, retry_after_s=retry_after_s)
