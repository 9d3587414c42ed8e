"""What goes wrong, as RFC 9457 problem details: on every route, whatever raises it."""

from __future__ import annotations

import math
import secrets
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from timestore.errors import InternalError, TimestoreError, error
from timestore.json_object import canonical_json

PROBLEM_TYPE = "application/problem+json"
_KINDS_OF_HTTP = {404: "action_unknown", 405: "unsupported"}  # what Starlette itself refuses

log = structlog.get_logger()


def install_problems(app: FastAPI) -> None:
    """Have an application answer whatever its routes raise as problem details."""
    app.add_exception_handler(TimestoreError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_exception_handler(HTTPException, _refuse_request)
    app.add_middleware(UnforeseenErrors)


def problem_response(failure: TimestoreError, *, status: int | None = None) -> Response:
    """Build the answer for an error; ``status`` if HTTP has a better one than its kind."""
    headers = {}
    if failure.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(failure.retry_after_s))
    if failure.kind == "unauthenticated":
        headers["www-authenticate"] = "Bearer"
    body = canonical_json(problem(failure, status=status)).encode()
    return Response(body, status_code=status or failure.spec.http, headers=headers, media_type=PROBLEM_TYPE)


def problem(failure: TimestoreError, *, status: int | None = None) -> dict[str, Any]:
    """Return the problem details of an error."""
    details: dict[str, Any] = {
        "type": f"urn:timestore:error:{failure.kind}",
        "title": failure.kind.replace("_", " ").capitalize(),
        "status": status or failure.spec.http,
        "detail": failure.message,
        "kind": failure.kind,
        "repeatable": failure.spec.repeatable,
        "details": failure.details,
    }
    if failure.retry_after_s is not None:
        details["retry_after_s"] = failure.retry_after_s
    return details


def reported(failure: Exception, *, path: str) -> TimestoreError:
    """Log a failure; return what the client hears of it: of a defect no more than where the log has it."""
    if isinstance(failure, TimestoreError) and not isinstance(failure, InternalError):
        # The message may show row values, which are the client's to see and not the log's.
        log.info("http.refused", path=path, kind=failure.kind)
        return failure
    error_id = secrets.token_hex(8)
    log.error("http.failed", path=path, error_id=error_id, exc_info=failure)
    what = failure.message if isinstance(failure, InternalError) else "something unforeseen went wrong"
    return InternalError(
        "internal", f"{what}; the server's log has it as error {error_id}", details={"error_id": error_id}
    )


class UnforeseenErrors:
    """Answers what no handler knows as ``internal``, with an error id that the log has too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception as exc:  # noqa: BLE001  # the top of a request: it is logged, and answered as `internal`
            failure = reported(exc, path=scope.get("path", ""))
            if not begun:
                await problem_response(failure)(scope, receive, send)
                return
            # What was begun is cut off, which the client sees: its end is missing.
            raise AnswerCutError from None


class AnswerCutError(Exception):
    """Ends a connection whose answer cannot go on. It is in the log already."""


async def _refuse(request: Request, exc: Exception) -> Response:
    return problem_response(reported(exc, path=request.url.path))


async def _refuse_parameters(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    place = " ".join(str(part) for part in first["loc"])
    return problem_response(reported(error("descriptor_invalid", f"{place}: {first['msg']}"), path=request.url.path))


async def _refuse_request(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    kind = _KINDS_OF_HTTP.get(exc.status_code, "descriptor_invalid")
    message = f"{request.method} {request.url.path[:200]}: {exc.detail}; /docs lists what there is"
    response = problem_response(error(kind, message), status=exc.status_code)
    response.headers.update(exc.headers or {})
    return response
