"""Call headers, kept for the handlers."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow.flight as flight

from timestore.errors import error

HEADERS = "headers"  # the middleware's name


class CallHeaders(flight.ServerMiddleware):
    """The headers of one call, by lower-case name."""

    def __init__(self, headers: Mapping[str, list[str | bytes]]) -> None:
        super().__init__()
        self._headers = {name.lower(): values for name, values in headers.items()}

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
    """Makes the middleware of each call."""

    def start_call(self, info: flight.CallInfo, headers: Mapping[str, list[str | bytes]]) -> CallHeaders:
        return CallHeaders(headers)


def call_headers(context: flight.ServerCallContext) -> dict[str, str]:
    """Return the ``x-`` headers of a call."""
    middleware = context.get_middleware(HEADERS)
    return middleware.texts() if middleware is not None else {}
