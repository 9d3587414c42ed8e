"""One append: from the body of its request to a receipt, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from access.principal import Principal
from http_gateway.append_request import AppendRequest, BodyFormat
from http_gateway.arrow_bodies import open_arrow
from http_gateway.body import BodyPipe
from http_gateway.csv_bodies import open_csv
from http_gateway.encodings import Prefixed, Source, decoded
from http_gateway.json_bodies import open_array, open_columns, open_lines
from http_gateway.json_columns import MAX_COLUMNS_BYTES, read_columns
from http_gateway.parquet_bodies import open_parquet
from http_gateway.rows import Rows, Wanted
from http_gateway.spool import Spool
from timestore.errors import TimestoreError, error
from timestore.receipt import Receipt
from writers.commit_log import log_commit
from writers.ingestion import Ingestion
from writers.put import PutStream
from writers.row_types import RowTypes

LARGE_AT_ONCE = 2  # bodies that need far more memory than a chunk
LARGE_TIMEOUT_S = 30.0
RETRY_AFTER_S = 1.0
_HEAD_BYTES = 4_096
_SPACE = b" \t\r\n"


class Appending:
    """Appends bodies. Thread safe."""

    def __init__(self, *, ingestion: Ingestion, types: RowTypes, spool: Spool, max_batch_bytes: int) -> None:
        self._ingestion = ingestion
        self._types = types
        self._spool = spool
        self._max_batch_bytes = max_batch_bytes
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)

    def append(self, request: AppendRequest, pipe: BodyPipe, principal: Principal) -> Receipt:
        """Append a whole body; raises what is wrong with it, and what putting raises."""
        self._ingestion.check(request.descriptor, principal)  # before a byte of the body is asked for
        wanted = Wanted(dataset=None, timestamp_column=request.timestamp_column)
        if request.descriptor.typed_by_dataset:
            wanted = Wanted(dataset=self._types.find(request.descriptor), timestamp_column=request.timestamp_column)
        try:
            with self._rows(request.format, decoded(pipe, request.encoding), wanted, pipe) as rows:
                receipt = self._put(request, rows, pipe, principal)
        except TimestoreError as failure:
            if failure.kind == "idempotency_conflict" and request.descriptor.typed_by_dataset:
                self._types.check_conflict(request.descriptor, wanted.dataset)
            raise
        log_commit(receipt, principal, door="http")
        return receipt

    @contextmanager
    def _rows(self, format_: BodyFormat, source: Source, wanted: Wanted, pipe: BodyPipe) -> Iterator[Rows]:
        match format_:
            case BodyFormat.ARROW:
                yield open_arrow(source, max_batch_bytes=self._max_batch_bytes)
            case BodyFormat.NDJSON:
                yield open_lines(source, wanted)
            case BodyFormat.CSV:
                yield open_csv(source, wanted)
            case BodyFormat.PARQUET:
                with self._spool.copy(source, b"", pipe) as file, self._place_for_large():
                    yield open_parquet(file)
            case BodyFormat.JSON:
                with self._json_rows(source, wanted, pipe) as rows:
                    yield rows

    @contextmanager
    def _json_rows(self, source: Source, wanted: Wanted, pipe: BodyPipe) -> Iterator[Rows]:
        """Open an array of rows or an object of columns, whichever the body is."""
        head = source.read(_HEAD_BYTES).lstrip(_SPACE)  # no longer than that: who needs more space means no good
        if head.startswith(b"["):
            yield open_array(Prefixed(head[1:], source), wanted)
        elif head.startswith(b"{"):
            with self._spool.copy(source, head, pipe, limit_bytes=MAX_COLUMNS_BYTES) as file, self._place_for_large():
                yield open_columns(read_columns(file), wanted)
        else:
            raise error("batch_invalid", "the body is neither a JSON array of rows nor a JSON object of columns")

    def _put(self, request: AppendRequest, rows: Rows, pipe: BodyPipe, principal: Principal) -> Receipt:
        with self._ingestion.put(request.descriptor, rows.schema, principal) as put:
            pipe.waiting_for_client = put.watch.waiting_for_client
            for batch in _batches(put, rows, pipe):
                put.add(batch)
                put.pace.took(batch.nbytes)
                if batch.num_rows:
                    put.watch.took_rows()
            return put.finish(marker_rows=None, is_cancelled=lambda: pipe.is_gone)

    @contextmanager
    def _place_for_large(self) -> Iterator[None]:
        if not self._large.acquire(timeout=LARGE_TIMEOUT_S):
            raise error(
                "overloaded",
                f"{LARGE_AT_ONCE} bodies of Parquet or JSON columns are being read, and no more may; try again shortly",
                details={"limit": LARGE_AT_ONCE},
                retry_after_s=RETRY_AFTER_S,
            )
        try:
            yield
        finally:
            self._large.release()


def _batches(put: PutStream, rows: Rows, pipe: BodyPipe) -> Iterator[pa.RecordBatch]:
    while True:
        put.pace.wait(lambda: pipe.has_failed)
        put.make_room()
        batch = next(rows.batches, None)
        if batch is None:
            return
        yield batch
