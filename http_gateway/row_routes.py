"""The route that reads rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from access.principal import Principal
from http_gateway.append_request import parse_key
from http_gateway.callers import caller_of
from http_gateway.problems import problem_response
from http_gateway.row_stream import RowFormat, RowResponse, next_piece, pieces_of
from http_gateway.selecting import AsOfTime, From, Keys, To, Version, parse_as_of, parse_selection
from readers.reads import ReadPlan, Reads
from timestore.errors import TimestoreError, error
from timestore.names import parse_dataset_name
from timestore.reading import ReadDescriptor


def row_routes(reads: Reads) -> APIRouter:
    """Return the route that reads rows."""
    router = APIRouter(prefix="/v1/datasets", tags=["rows"])

    @router.get(
        "/{dataset}/rows",
        summary="Read rows at one version",
        response_class=Response,
        responses={200: {"content": _content(), "description": "Rows, ordered by window, key and version."}},
    )
    async def read_rows(
        request: Request,
        dataset: Annotated[str, Path(description="The dataset's name.")],
        version: Version = None,
        as_of: AsOfTime = None,
        key: Keys = None,
        start: From = None,
        end: To = None,
        column: Annotated[list[str] | None, Query(description="Only these columns; once for each.")] = None,
        with_key: Annotated[bool, Query(description="Add the key's parts as text columns.")] = False,
        format_: Annotated[RowFormat | None, Query(alias="format", description="Instead of Accept.")] = None,
        accept: Annotated[str, Header()] = "*/*",
    ) -> Response:
        """Rows as Arrow, JSON lines or CSV, by `format` or `Accept`; an answer without its end is not whole."""
        chosen = format_ or _accepted(accept)
        if chosen is None:
            failure = error("unsupported", f"rows come as {', '.join(each.media_type for each in RowFormat)}")
            return problem_response(failure, status=406)
        descriptor = ReadDescriptor(
            dataset=parse_dataset_name(dataset),
            as_of=parse_as_of(version, as_of),
            selection=parse_selection(
                key=parse_key(key or []), start=start, end=end, columns=column, with_key=with_key
            ),
        )
        return await _answer(reads, descriptor, chosen, caller_of(request))

    return router


async def _answer(reads: Reads, descriptor: ReadDescriptor, format_: RowFormat, principal: Principal) -> Response:
    plan = await run_in_threadpool(reads.plan, descriptor, principal)
    try:
        pieces = pieces_of(format_, plan.schema, _batches(reads, plan, principal))
    except TimestoreError as failure:
        return problem_response(failure, status=406)
    first = await next_piece(pieces)  # what fails here still has a status
    version = plan.parts[0].ticket.version if plan.parts else None
    headers = {"timestore-version": str(version)} if version is not None else {}
    return RowResponse(first, pieces, format_=format_, headers=headers)


def _batches(reads: Reads, plan: ReadPlan, principal: Principal) -> Iterator[pa.RecordBatch]:
    for part in plan.parts:
        _, batches = reads.open(part.ticket, principal)
        yield from batches


def _accepted(accept: str) -> RowFormat | None:
    """Choose by what a client prefers; JSON lines for one that takes anything."""
    ranges = [each.split(";")[0].strip().lower() for each in accept.split(",")]
    for wanted in ranges:
        for format_ in RowFormat:
            if wanted in (format_.media_type, "*/*", format_.media_type.partition("/")[0] + "/*"):
                return format_
        if wanted == "application/json":
            return RowFormat.NDJSON
    return None


def _content() -> dict[str, Any]:
    return {each.media_type: {"schema": {"type": "string", "format": "binary"}} for each in RowFormat}
