"""JSON answers, in the one spelling that this project has for JSON."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response

from timestore.json_object import canonical_json


def json_answer(
    fields: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Build an answer; what it has is documented beside the route."""
    body = canonical_json(fields).encode()
    return Response(body, status_code=status, headers=dict(headers or {}), media_type="application/json")
