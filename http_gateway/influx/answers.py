"""Errors as InfluxDB's clients understand them: whether to repeat a request, they read off its status.

A 4xx is not repeated, and what it was about is dropped; a 5xx is repeated. So a kind that may be repeated is a 5xx, and
one that may not is a 4xx. Load is 429 in InfluxDB 2, whose agents know it; those of InfluxDB 1 drop what was sent.
"""

from __future__ import annotations

import math

from fastapi import Response

from timestore.errors import TimestoreError
from timestore.json_object import canonical_json

CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    409: "conflict",
    413: "request too large",
    422: "unprocessable entity",
    429: "too many requests",
    500: "internal error",
}
UNAVAILABLE = "unavailable"
_MALFORMED = 400
_REFUSED = 422
_REPEAT = 503
_OVERLOADED = 429


def status_of(failure: TimestoreError) -> int:
    """Return the status that InfluxDB would give an error."""
    status = failure.spec.http
    if failure.kind == "batch_invalid":
        return _MALFORMED
    if failure.spec.repeatable:
        return status if status == _OVERLOADED or status >= 500 else _REPEAT
    return status if status < 500 else _REFUSED


def second_answer(failure: TimestoreError) -> Response:
    """Build an answer of InfluxDB 2."""
    status = status_of(failure)
    fields: dict[str, object] = {"code": CODES.get(status, UNAVAILABLE), "message": str(failure)}
    if (line := failure.details.get("line", "")).isdigit():
        fields["line"] = int(line)
    return _answer(failure, status, fields)


def first_answer(failure: TimestoreError) -> Response:
    """Build an answer of InfluxDB 1."""
    status = status_of(failure)
    status = _REPEAT if status == _OVERLOADED else status
    response = _answer(failure, status, {"error": str(failure)})
    response.headers["x-influxdb-error"] = str(failure).encode("ascii", "backslashreplace").decode().replace("\n", " ")
    return response


def _answer(failure: TimestoreError, status: int, fields: dict[str, object]) -> Response:
    headers = {}
    if failure.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(failure.retry_after_s))
    if failure.kind == "unauthenticated":
        headers["www-authenticate"] = "Token"
    return Response(canonical_json(fields), status_code=status, headers=headers, media_type="application/json")
