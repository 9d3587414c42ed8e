"""The routes of InfluxDB's API that its agents use to write. Not our API, so not in our OpenAPI document."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from access.principal import Principal
from http_gateway.answers import json_answer
from http_gateway.append_routes import AppendPlaces
from http_gateway.callers import Callers
from http_gateway.influx.answers import first_answer, second_answer
from http_gateway.influx.credentials import authorization_of
from http_gateway.influx.write_request import KEY_TAG_PARAMETER, parse_write
from http_gateway.influx.writing import Writing
from http_gateway.monitoring_routes import READY_TIMEOUT_S
from http_gateway.problems import reported
from timestore import __version__
from timestore.errors import TimestoreError, error
from writers.readiness import ReadinessProbe

VERSION = {"x-influxdb-version": f"timestore-{__version__}", "x-influxdb-build": "timestore"}
MAX_FORM_BYTES = 4_096
_CREATE_DATABASE = re.compile(r'\s*CREATE\s+DATABASE\s+("(?:[^"\\]|\\.)*"|\w+)\s*;?\s*', re.IGNORECASE)

Answer = Callable[[TimestoreError], Response]


def influx_routes(writing: Writing, places: AppendPlaces, probe: ReadinessProbe, callers: Callers) -> APIRouter:
    """Return the routes of InfluxDB 1 and 2 that take lines, and those that agents ask before.

    They find out for themselves who calls: credentials and refusals look different here. What needs none tells nothing.
    """
    router = APIRouter(include_in_schema=False)

    @router.post("/api/v2/write")
    async def write_second(request: Request) -> Response:
        return await _write(request, second_answer)

    @router.post("/write")
    async def write_first(request: Request) -> Response:
        return await _write(request, first_answer)

    async def _write(request: Request, answer: Answer) -> Response:
        query = request.query_params
        try:
            principal = await run_in_threadpool(_find_caller, request, callers)
            parsed = parse_write(
                precision=query.get("precision", ""), key_tags=query.getlist(KEY_TAG_PARAMETER), headers=request.headers
            )
            await places.run(request, lambda pipe: writing.write(parsed, pipe, principal))
        except Exception as exc:  # noqa: BLE001  # the top of a request: it is logged, and answered in this API's words
            return answer(reported(exc, path=request.url.path))
        return Response(status_code=204, headers=VERSION)

    @router.get("/ping")
    @router.head("/ping")
    async def ping() -> Response:
        return Response(status_code=204, headers=VERSION)

    @router.get("/health")
    async def health() -> Response:
        readiness = await asyncio.to_thread(probe.look, timeout_s=READY_TIMEOUT_S)
        status = "pass" if readiness.is_ready else "fail"
        fields = {"name": "timestore", "status": status, "version": __version__, "checks": []}
        return json_answer(fields, status=200 if readiness.is_ready else 503)

    @router.post("/query")
    async def query(request: Request) -> Response:
        """Take the one statement that agents begin with. Databases are not here, so that there is nothing to do."""
        if _CREATE_DATABASE.fullmatch(request.query_params.get("q") or await _statement(request)):
            return json_answer({"results": [{"statement_id": 0}]}, headers=VERSION)
        return first_answer(error("unsupported", "InfluxQL is not answered here but for CREATE DATABASE; read by SQL"))

    return router


def _find_caller(request: Request, callers: Callers) -> Principal:
    query = request.query_params
    headers = authorization_of(
        request.headers.getlist("authorization"), user=query.get("u", ""), password=query.get("p", "")
    )
    return callers.find(request, headers)


async def _statement(request: Request) -> str:
    """Return the statement in a form; nothing if it is longer than those that are answered."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            return ""
    return parse_qs(body.decode("latin-1")).get("q", [""])[0]
