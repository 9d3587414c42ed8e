"""Whom a request is from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from fastapi import Request

from access.authenticator import Authenticator
from access.principal import Principal

CERTIFICATE = "certificate"  # in the state of a connection: whose verified client certificate it has


class Callers:
    """A dependency of all routes that need to know: it comes before anything else of the request is looked at."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def __call__(self, request: Request) -> None:
        """Find out who calls: by its header, else by its client certificate; raises ``unauthenticated``."""
        request.state.principal = self._find(request)

    def _find(self, request: Request) -> Principal:
        return self.find(request, request.headers.getlist("authorization"))

    def find(self, request: Request, headers: Sequence[str]) -> Principal:
        """Return who sends a request with these authorization headers; raises ``unauthenticated``."""
        if headers:
            return self._authenticator.by_header(headers)
        certificate: str | None = getattr(request.state, CERTIFICATE, None)
        return self._authenticator.by_certificate(certificate) if certificate else self._authenticator.by_nothing()


def caller_of(request: Request) -> Principal:
    """Return whom a request is from, as ``Callers`` found out."""
    return cast(Principal, request.state.principal)
