"""Call headers, kept for the handlers, and whom a call is from."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow.flight as flight

from access.authenticator import Authenticator, bearer_header
from access.principal import Principal
from flight_server.answers import answering
from timestore.errors import error

HEADERS = "headers"  # the middleware's name
AUTHORIZATION = "authorization"


class CallHeaders(flight.ServerMiddleware):
    """The headers of one call, by lower-case name."""

    def __init__(self, headers: Mapping[str, list[str | bytes]]) -> None:
        super().__init__()
        self._headers = {name.lower(): values for name, values in headers.items()}
        self.answer: dict[str, str] = {}  # what goes back with the answer

    @property
    def authorization(self) -> list[str | bytes]:
        return self._headers.get(AUTHORIZATION, [])

    def sending_headers(self) -> dict[str, str]:
        return self.answer

    def texts(self) -> dict[str, str]:
        """Return the ``x-`` headers; one that is given twice must have equal values. Raises ``descriptor_invalid``."""
        texts = {}
        for name, values in self._headers.items():
            if not name.startswith("x-"):
                continue
            if len(set(values)) != 1:
                raise error("descriptor_invalid", f"the header {name} is given more than once, with different values")
            value = values[0]
            texts[name] = value if isinstance(value, str) else value.decode("latin-1")
        return texts


class CallHeadersFactory(flight.ServerMiddlewareFactory):
    """Makes the middleware of each call. A handshake has no handler, so that it is judged here."""

    def __init__(self, authenticator: Authenticator) -> None:
        super().__init__()
        self._authenticator = authenticator

    def start_call(self, info: flight.CallInfo, headers: Mapping[str, list[str | bytes]]) -> CallHeaders:
        call = CallHeaders(headers)
        if info.method is flight.FlightMethod.HANDSHAKE:
            with answering("handshake"):
                principal_of(call, None, self._authenticator)
                call.answer[AUTHORIZATION] = bearer_header(call.authorization)
        return call


class NoHandshake(flight.ServerAuthHandler):
    """Lets handshakes through: with their headers, the middleware answers them."""

    def authenticate(self, outgoing: object, incoming: object) -> None:
        """Say nothing."""

    def is_valid(self, token: bytes) -> bytes:
        return b""


def call_headers(context: flight.ServerCallContext) -> CallHeaders:
    """Return the headers of a call."""
    headers = context.get_middleware(HEADERS)
    assert isinstance(headers, CallHeaders)  # each call has it
    return headers


def principal_of(call: CallHeaders, certificate: str | None, authenticator: Authenticator) -> Principal:
    """Return whom a call is from: by its header, else by its client certificate; raises ``unauthenticated``."""
    if call.authorization:
        return authenticator.by_header(call.authorization)
    return authenticator.by_certificate(certificate) if certificate else authenticator.by_nothing()
