"""Rows of a read, endpoint after endpoint, in bounded memory; or several endpoints at once, still in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import pyarrow as pa
import pyarrow.flight as flight

from timestore.client.flight_errors import to_typed
from timestore.client.retrying import Retrying

AHEAD_BATCHES = 4  # that wait for each endpoint which is read ahead

OpenStream = Callable[[flight.Ticket], flight.FlightStreamReader]


class RowStream:
    """Reads the endpoints of one FlightInfo. An endpoint is tried again until its first batch has come."""

    def __init__(self, *, open_stream: OpenStream, retrying: Retrying) -> None:
        self._open_stream = open_stream
        self._retrying = retrying

    def batches(self, tickets: Sequence[flight.Ticket], *, parallel: int) -> Iterator[pa.RecordBatch]:
        """Yield all rows in the order of the tickets, reading up to ``parallel`` of them at once."""
        if parallel < 2:
            for ticket in tickets:
                yield from self._endpoint(ticket)
            return
        waiting = iter(tickets)
        running: deque[_ReadAhead] = deque()
        try:
            while True:
                while len(running) < parallel and (ticket := next(waiting, None)) is not None:
                    running.append(_ReadAhead(partial(self._endpoint, ticket)))
                if not running:
                    return
                yield from running[0].batches()
                running.popleft()
        finally:
            for read_ahead in running:
                read_ahead.stop()

    def _endpoint(self, ticket: flight.Ticket) -> Iterator[pa.RecordBatch]:
        def begin() -> tuple[flight.FlightStreamReader, pa.RecordBatch | None]:
            try:
                stream = self._open_stream(ticket)
                return stream, _next_batch(stream)
            except flight.FlightError as exc:
                raise to_typed(exc) from exc

        stream, batch = self._retrying.call(begin)
        try:
            while batch is not None:
                yield batch
                batch = _translated_next(stream)
        finally:
            with suppress(pa.ArrowException, OSError):
                stream.cancel()  # of a reader that stopped early; else nothing is left to cancel


class _ReadAhead:
    """One endpoint, read on a thread of its own, a few batches ahead."""

    def __init__(self, read: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self._read = read
        self._queue: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(maxsize=AHEAD_BATCHES)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timestore-read-ahead", daemon=True)
        self._thread.start()

    def batches(self) -> Iterator[pa.RecordBatch]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """Let go of what nobody wants any more. The thread ends at its next batch."""
        self._stopped.set()
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def _run(self) -> None:
        last: BaseException | None = None
        try:
            for batch in self._read():
                self._queue.put(batch)
                if self._stopped.is_set():
                    return
        except Exception as exc:  # noqa: BLE001  # the top of a thread: the reader raises it
            last = exc
        if not self._stopped.is_set():
            self._queue.put(last)


def _next_batch(stream: flight.FlightStreamReader) -> pa.RecordBatch | None:
    for chunk in stream:
        if chunk.data is not None:
            return chunk.data
    return None


def _translated_next(stream: flight.FlightStreamReader) -> pa.RecordBatch | None:
    try:
        return _next_batch(stream)
    except flight.FlightError as exc:
        raise to_typed(exc) from exc
