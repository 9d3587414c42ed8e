"""What those ask who watch over a server: does it live, can it work, what has it done.

``/healthz`` and ``/readyz`` are for everybody, and say no more than kinds of errors. Nothing here needs one of the
threads that requests share: a server that is busy is not to look dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Response

from http_gateway.answers import json_answer
from http_gateway.documents import PROBLEMS
from http_gateway.problems import problem_response
from timestore.errors import error
from writers.readiness import ReadinessProbe

READY_TIMEOUT_S = 2.0  # a probe that gets no answer itself learns nothing
RETRY_AFTER_S = 1.0

Exposition = Callable[
    [str], tuple[bytes, str]
]  # metrics in a format that an Accept header names, and the format's name


def probe_routes(probe: ReadinessProbe) -> APIRouter:
    """Return the routes of probes."""
    router = APIRouter(tags=["monitoring"])

    @router.get("/healthz", summary="Say that the process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get(
        "/readyz",
        summary="Say whether puts are accepted, and catalog and storage answer",
        responses={"5XX": PROBLEMS["5XX"]},
    )
    async def readyz() -> Response:
        """Answer 503 with the reason if not. The server may be asked as often as you like."""
        readiness = await asyncio.to_thread(probe.look, timeout_s=READY_TIMEOUT_S)
        parts = {"puts": readiness.puts, "catalog": readiness.catalog, "storage": readiness.storage}
        if missing := {part: kind for part, kind in parts.items() if kind is not None}:
            told = ", ".join(f"{part}: {kind}" for part, kind in missing.items())
            kind = next(iter(missing.values()))
            return problem_response(
                error(kind, f"not ready ({told})", details=missing, retry_after_s=RETRY_AFTER_S), status=503
            )
        return json_answer({"status": "ready"})

    return router


def metrics_routes(metrics: Exposition) -> APIRouter:
    """Return the route of metrics, which is not for everybody."""
    router = APIRouter(tags=["monitoring"])

    @router.get("/metrics", summary="Return the server's metrics for Prometheus", response_class=Response)
    async def read_metrics(accept: Annotated[str, Header()] = "") -> Response:
        body, content_type = await asyncio.to_thread(metrics, accept)
        return Response(body, headers={"content-type": content_type})

    return router
