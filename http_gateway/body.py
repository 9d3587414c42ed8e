"""A request's body on its way from the event loop to the thread that parses it: few bytes, and an end that is known.

The loop feeds, and waits while there is enough; the thread reads as from a file. Only a body that arrived whole has an
end: of one that was cut short, reading fails.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from starlette.types import Receive

from http_gateway.file_like import FileLike
from timestore.errors import TimestoreError, error
from writers.put import cancelled

PIPE_BYTES = 256 << 10  # fed and not yet read; what one message of the server brings comes on top
LOOK_AGAIN_S = 0.5


class BodyPipe(FileLike):
    """The body of one request. Fed by the event loop, read by one thread."""

    def __init__(self, *, idle_timeout_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        self._condition = threading.Condition()
        self._fed = bytearray()
        self._ended = False
        self._failure: TimestoreError | None = None
        self._waited_s = 0.0  # for the client, since it brought the request on
        self.bytes_read = 0
        self.is_gone = False  # the client, after it has sent everything
        # Set once a put runs: then its watchdog judges how long the client may take.
        self.waiting_for_client: Callable[[], AbstractContextManager[None]] | None = None

    # On the event loop.

    async def fill(self, receive: Receive) -> None:
        """Feed the whole body once it is wanted, then note whether the client goes away before it is answered.

        A client that asked whether it should go on (``Expect: 100-continue``) sends nothing of what nobody wants.
        """
        await self._wanted.wait()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.fail(cancelled())
                return
            more = message.get("more_body", False)
            await self._feed(message.get("body", b""), ended=not more)
        await receive()  # returns when the client has gone, or has been answered
        self.is_gone = True

    def fail(self, failure: TimestoreError) -> None:
        """Let reading fail from here on."""
        with self._condition:
            self._failure = self._failure or failure
            self._condition.notify_all()

    async def _feed(self, data: bytes, *, ended: bool) -> None:
        with self._condition:
            self._fed += data
            self._ended = ended
            self._room.clear()
            is_full = len(self._fed) > PIPE_BYTES
            self._condition.notify_all()
        if is_full:
            await self._room.wait()

    # On the thread that reads.

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer only at the end of the body.

        Raises ``cancelled`` for a body that was cut short, and ``deadline_exceeded`` for a client that falls silent.
        """
        taken = bytearray()
        while len(taken) < size and (piece := self._take(size - len(taken))):
            taken += piece
        self.bytes_read += len(taken)
        return bytes(taken)

    def went_on(self) -> None:
        """Note that what the client sent brought its request on."""
        self._waited_s = 0.0

    def _take(self, size: int) -> bytes:
        """Take what is there, at most so many bytes; nothing only at the end of the body."""
        while True:
            with self._condition:
                if self._failure is not None:
                    raise self._failure
                if self._fed or self._ended:
                    return self._cut(size)
            self._wait()

    def _cut(self, size: int) -> bytes:
        """Cut bytes off, and let the loop go on once there are few left; the caller holds the lock."""
        piece = bytes(self._fed[:size])
        del self._fed[:size]
        if len(self._fed) <= PIPE_BYTES // 2:
            self._loop.call_soon_threadsafe(self._room.set)
        return piece

    def _wait(self) -> None:
        """Wait a little for the client."""
        self._loop.call_soon_threadsafe(self._wanted.set)
        started = time.monotonic()
        with self.waiting_for_client() if self.waiting_for_client is not None else nullcontext(), self._condition:
            self._condition.wait_for(lambda: self._fed or self._ended or self._failure is not None, LOOK_AGAIN_S)
        self._waited_s += time.monotonic() - started
        if self.waiting_for_client is None and self._waited_s >= self._idle_timeout_s:
            raise error(
                "deadline_exceeded",
                f"the client took {self._idle_timeout_s:g} s and more for what was to be read next, so the request was "
                "given up and nothing was stored; send it again, without such pauses",
                details={"put_idle_timeout_s": f"{self._idle_timeout_s:g}"},
            )
