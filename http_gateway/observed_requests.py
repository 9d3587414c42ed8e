"""Requests, told to whoever counts them."""

from __future__ import annotations

import time
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER = "other"
UNMATCHED = "unmatched"
NO_STATUS = 499  # the client went away before there was one


class RequestObserver(Protocol):
    """Hears of every request. Thread safe, quick, and raises nothing."""

    def request_ended(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Take note of a request; ``method`` and ``route`` have few values, whatever clients send."""
        ...


class ObservedRequests:
    """An application of which each request is told to an observer."""

    def __init__(self, app: ASGIApp, observer: RequestObserver) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), NO_STATUS

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        finally:
            seconds = time.monotonic() - started
            self._observer.request_ended(method=_method(scope), route=_route(scope), status=status, seconds=seconds)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else OTHER


def _route(scope: Scope) -> str:
    """Return the pattern of the route that took the request: the path itself is anybody's choice."""
    route = scope.get("route")
    return str(getattr(route, "path", UNMATCHED))
