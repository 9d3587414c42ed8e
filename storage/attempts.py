"""Requests to an object store: each with a timeout, repeated with growing pauses, and all of them until a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from storage.bucket import BucketError, Trouble

REQUEST_TIMEOUT_S = 60.0  # of one request, with one part at most; drivers give up sooner if nothing is answered
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

T = TypeVar("T")


class DeadlineAttempts:
    """Repeats the requests of one operation until its deadline."""

    def __init__(self, *, explain: Callable[[Exception], BucketError | None], deadline_s: float) -> None:
        self._explain = explain
        self._deadline = time.monotonic() + deadline_s
        self._last: BucketError | None = None  # which says more than that the deadline came

    async def __call__(self, request: Callable[[], Awaitable[T]]) -> T:
        return await self.repeat(lambda: self._once(request), on=Trouble.TRANSIENT)

    async def repeat(self, step: Callable[[], Awaitable[T]], *, on: Trouble) -> T:
        """Take a step again while it meets this trouble."""
        async for attempt in stamina.retry_context(
            on=lambda exc: isinstance(exc, BucketError) and exc.trouble is on,
            attempts=None,
            timeout=self._left_s(),
            wait_initial=FIRST_PAUSE_S,
            wait_max=LONGEST_PAUSE_S,
            wait_jitter=FIRST_PAUSE_S,
        ):
            with attempt:
                return await step()
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, request: Callable[[], Awaitable[T]]) -> T:
        timeout_s = min(REQUEST_TIMEOUT_S, self._left_s())
        try:
            async with asyncio.timeout(timeout_s):
                return await request()
        except BucketError:
            raise
        except TimeoutError:
            late = BucketError(Trouble.TRANSIENT, f"it did not answer within {timeout_s:.2g} s")
            raise (self._last or late) from None
        except Exception as exc:
            meaning = self._explain(exc)
            if meaning is None:
                raise
            self._last = meaning
            raise meaning from exc

    def _left_s(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)
