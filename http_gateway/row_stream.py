"""Rows on their way out: read batch by batch, no further ahead than the client takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping
from enum import StrEnum
from io import BytesIO

import anyio
import anyio.to_thread
import pyarrow as pa
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from http_gateway.row_texts import CsvText, json_lines

PIECE_ROWS = 8_192  # of text: it takes several times what the rows take


class RowFormat(StrEnum):
    """How rows are written."""

    NDJSON = "ndjson"
    ARROW = "arrow"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    RowFormat.NDJSON: "application/x-ndjson",
    RowFormat.ARROW: "application/vnd.apache.arrow.stream",
    RowFormat.CSV: "text/csv",
}


Pieces = Generator[bytes, None, None]


def pieces_of(format_: RowFormat, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Pieces:
    """Yield rows in a format, the first piece before any row is read. Close it to let go of what it reads from."""
    match format_:
        case RowFormat.ARROW:
            return _arrow(schema, batches)
        case RowFormat.CSV:
            return _csv(CsvText(schema), batches)
        case RowFormat.NDJSON:
            return _ndjson(batches)


def _arrow(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Pieces:
    sink = BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield _taken(sink)
    yield _taken(sink)


def _csv(text: CsvText, batches: Iterator[pa.RecordBatch]) -> Pieces:
    for batch in batches:
        for start in range(0, batch.num_rows, PIECE_ROWS):
            yield text.text(batch.slice(start, PIECE_ROWS))
    yield text.end()


def _ndjson(batches: Iterator[pa.RecordBatch]) -> Pieces:
    for batch in batches:
        for start in range(0, batch.num_rows, PIECE_ROWS):
            yield json_lines(batch.slice(start, PIECE_ROWS))


def _taken(sink: BytesIO) -> bytes:
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


class RowResponse(Response):
    """Streams pieces. What goes wrong on the way cuts the answer off: its end is missing, which the client sees."""

    def __init__(self, first: bytes | None, pieces: Pieces, *, format_: RowFormat, headers: Mapping[str, str]) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.media_type = format_.media_type
        self._first = first
        self._pieces = pieces
        self.init_headers(headers)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as ASGI has it
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            await self._end(sending, leaving)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        piece = self._first
        while piece is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await next_piece(self._pieces)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        """Let go of the reader, once no thread uses it."""
        for task in tasks:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*tasks, return_exceptions=True)
            await anyio.to_thread.run_sync(self._pieces.close)


async def next_piece(pieces: Pieces) -> bytes | None:
    """Read on, on a thread; None at the end."""
    return await anyio.to_thread.run_sync(_next, pieces)


def _next(pieces: Pieces) -> bytes | None:
    return next(pieces, None)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
