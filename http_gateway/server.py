"""The server under the application: one event loop on a thread of its own, one port."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from http_gateway.callers import CERTIFICATE

START_TIMEOUT_S = 10.0


class HttpDoor:
    """Serves an application. Thread safe."""

    def __init__(self, *, app: ASGIApp, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host = host
        self._wanted_port = port
        self._started = threading.Event()
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",  # what goes wrong in a request is logged by the application
                access_log=False,
                proxy_headers=False,
                server_header=False,
            ),
            self._started,
            tls,
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, once it is open."""
        assert self._socket is not None
        port: int = self._socket.getsockname()[1]
        return port

    def open(self) -> None:
        """Listen, and return when requests are answered; raises ``OSError``."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._socket = socket.create_server((self._host, self._wanted_port), family=family, backlog=1_024)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise OSError("the HTTP server did not start; the log says why")

    def close(self, timeout_s: float) -> None:
        """Take no more connections, and wait a little for answers that are on their way."""
        self._server.config.timeout_graceful_shutdown = max(1, int(timeout_s))
        self._server.should_exit = True
        self._thread.join(timeout_s + 1.0)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close(1.0)

    def _run(self) -> None:
        assert self._socket is not None
        asyncio.run(self._server.serve(sockets=[self._socket]))


class _Connection(H11Protocol):
    """A connection: parsed by h11, which bounds what headers take, and with the name in the client's certificate."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        if (tls := transport.get_extra_info("ssl_object")) is not None:
            self.app_state = self.app_state | {CERTIFICATE: identity_of(tls.getpeercert())}
        super().connection_made(transport)


def identity_of(certificate: Mapping[str, Any] | None) -> str | None:
    """Return whose certificate it is: the first of its alternative names, else its common name, as gRPC has it."""
    if not certificate:
        return None
    for _, name in certificate.get("subjectAltName", ()):
        return str(name)
    subject = [pair for pairs in certificate.get("subject", ()) for pair in pairs]
    return next((str(value) for name, value in subject if name == "commonName"), None)


class _Server(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, started: threading.Event, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._started_event = started
        config.load()
        config.ssl = tls  # as it is: uvicorn would read the files again, and know less

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started_event.set()
