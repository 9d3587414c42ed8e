"""The route that appends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response

from http_gateway.answers import json_answer
from http_gateway.append_request import AppendRequest, BodyFormat, UnknownFormatError, parse_append
from http_gateway.appending import Appending
from http_gateway.body import BodyPipe
from http_gateway.callers import caller_of
from http_gateway.documents import Receipt as ReceiptDocument
from http_gateway.problems import problem_response
from timestore.errors import error
from timestore.receipt import Receipt
from writers.put import cancelled

T = TypeVar("T")

ACQUIRE_TIMEOUT_S = 10.0
RETRY_AFTER_S = 1.0


class AppendPlaces:
    """How many bodies may be on their way at once, and the threads that parse them: what bounds their memory."""

    def __init__(self, *, places: int, idle_timeout_s: float) -> None:
        self._places = places
        self._free = asyncio.Semaphore(places)
        self._threads = ThreadPoolExecutor(max_workers=places, thread_name_prefix="http-append")
        self._idle_timeout_s = idle_timeout_s

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    async def append(self, request: Request, parsed: AppendRequest, appending: Appending) -> Receipt:
        """Append a request's body, as ``run`` does its work."""
        return await self.run(request, lambda pipe: appending.append(parsed, pipe, caller_of(request)))

    async def run(self, request: Request, work: Callable[[BodyPipe], T]) -> T:
        """Work on a request's body once there is a place; raises ``overloaded`` if none becomes free in time."""
        await self._acquire()
        pipe = BodyPipe(idle_timeout_s=self._idle_timeout_s)
        filling = asyncio.create_task(pipe.fill(request.receive))
        working = asyncio.get_running_loop().run_in_executor(self._threads, work, pipe)
        working.add_done_callback(lambda _: self._free.release())
        try:
            return await asyncio.shield(working)
        finally:
            filling.cancel()
            pipe.fail(cancelled())  # for a server that stops: the thread must not wait any more

    async def _acquire(self) -> None:
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
                await self._free.acquire()
        except TimeoutError:
            raise error(
                "overloaded",
                f"{self._places} bodies are on their way, and no more may; try again shortly",
                details={"limit": self._places},
                retry_after_s=RETRY_AFTER_S,
            ) from None


def append_routes(appending: Appending, places: AppendPlaces) -> APIRouter:
    """Return the route that appends."""
    router = APIRouter(prefix="/v1/datasets", tags=["append"])

    @router.post(
        "/{dataset}/append",
        summary="Append rows, exactly once",
        status_code=201,
        responses={
            200: {"model": ReceiptDocument, "description": "The append had been committed before; its first receipt."},
            201: {"model": ReceiptDocument, "description": "Committed."},
        },
        openapi_extra={"requestBody": {"required": True, "content": _content()}},
    )
    async def append(
        request: Request,
        dataset: str,
        idempotency_key: Annotated[
            str | None,
            Header(
                description="The client's name for this append: sent again, it is answered by the same receipt. "
                "Without one, a repetition stores the rows twice."
            ),
        ] = None,
        key: Annotated[
            list[str] | None, Query(description="A part of the semantic key, `name=value`; once for each part.")
        ] = None,
        expected_rows: Annotated[
            int | None, Query(ge=0, description="Refuse a body that has not so many rows.")
        ] = None,
        timestamp_column: Annotated[
            str | None, Query(description="The column that decides the window; of a new dataset.")
        ] = None,
        window: Annotated[str | None, Query(description="Length of a window; of a new dataset.")] = None,
        order: Annotated[str | None, Query(description="`ordered`, `sort` or `any`; of a new dataset.")] = None,
        evolution: Annotated[str | None, Query(description="`additive` or `none`; of a new dataset.")] = None,
        retention: Annotated[str | None, Query(description="How long windows are kept; of a new dataset.")] = None,
        storage: Annotated[str | None, Query(description="Name of a storage target; of a new dataset.")] = None,
    ) -> Response:
        """Append the rows of the body to a dataset, which is created if it does not exist."""
        create = {
            "timestamp_column": timestamp_column,
            "window": window,
            "order": order,
            "evolution": evolution,
            "retention": retention,
            "storage": storage,
        }
        try:
            parsed = parse_append(
                dataset=dataset,
                key=key or [],
                idempotency_key=idempotency_key,
                expected_rows=expected_rows,
                create=create,
                headers=request.headers,
            )
        except UnknownFormatError as exc:
            return problem_response(exc.failure, status=415)
        receipt = await places.append(request, parsed, appending)
        return _answer(receipt)

    return router


def _answer(receipt: Receipt) -> Response:
    name = quote(receipt.idempotency_key, safe="")
    return json_answer(
        receipt.as_json(),
        status=200 if receipt.replayed else 201,
        headers={"location": f"/v1/datasets/{receipt.dataset}/receipts/{name}"},
    )


def _content() -> dict[str, Any]:
    """Return what OpenAPI says of a body."""
    return {name: {"schema": {"type": "string", "format": "binary"}} for each in BodyFormat for name in each.value[:2]}
