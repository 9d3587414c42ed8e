"""One attempt of a put: send everything, say that it was everything, take the receipt."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from timestore.client.connection import Connection
from timestore.client.flight_errors import translated
from timestore.client.payload import Payload
from timestore.descriptor import PutDescriptor
from timestore.errors import InternalError, RetryableError, error
from timestore.json_object import canonical_json
from timestore.receipt import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an append is. Acknowledged is what the server says it has taken; durable is only what has a receipt."""

    rows_sent: int = 0
    bytes_sent: int = 0  # of Arrow data, uncompressed
    rows_acknowledged: int = 0
    bytes_acknowledged: int = 0


OnProgress = Callable[[Progress], None]


def put(connection: Connection, descriptor: PutDescriptor, payload: Payload, on_progress: OnProgress | None) -> Receipt:
    """Run one put stream. Raises what the server says, what the data's source raises, or what ``on_progress`` does."""
    if any("\0" in name for name in payload.schema.names):
        raise error("schema_mismatch", "a column's name has a NUL character, which would be cut on the way")
    command = flight.FlightDescriptor.for_command(descriptor.to_command())
    with translated():
        writer, answers = connection.do_put(command, payload.schema)
        begun = answers.read() is not None
    call = _PutCall(writer, answers, on_progress)
    if not begun:
        call.end()  # refused: closing the stream says why
        raise InternalError("internal", "the server ended the stream before it began; send this again")
    try:
        call.send(payload)
        receipt = call.finish()
    except BaseException:
        call.give_up()
        raise
    call.end()
    if receipt is None:
        raise InternalError("internal", "the server ended the stream without a receipt; send this again")
    return receipt


class _PutCall:
    """A put stream that the server is ready for. Answers are read on a thread, so that writing never waits for them."""

    def __init__(
        self, writer: flight.FlightStreamWriter, answers: flight.FlightMetadataReader, on_progress: OnProgress | None
    ) -> None:
        self._writer = writer
        self._reader = answers
        self._on_progress = on_progress
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._rows = self._bytes = 0
        self._acknowledged = (0, 0)
        self._listener = threading.Thread(target=self._listen, name="timestore-answers", daemon=True)

    def send(self, payload: Payload) -> None:
        """Send every batch, then the end marker."""
        self._listener.start()
        for batch in payload:  # what this raises is the caller's own
            self._write(batch)
            self._rows += batch.num_rows
            self._bytes += batch.nbytes
            self._hear_what_is_there()
            self._tell()
        with translated():
            self._writer.write_metadata(canonical_json({"end": True, "rows": self._rows}).encode())
            self._writer.done_writing()

    def finish(self) -> Receipt | None:
        """Wait for the receipt; None if the stream ended without one, and ``end`` says why."""
        receipt = None
        while (answer := self._answers.get()) is not None:
            if answer["type"] == "receipt":
                receipt = Receipt.from_json(answer)
                self._acknowledged = self._rows, self._bytes
            else:
                self._take(answer)
            self._tell()
        return receipt

    def end(self) -> None:
        """Close the stream; raises what the server said of it."""
        with translated():
            self._close()

    def give_up(self) -> None:
        """End the stream without its end marker, which the server refuses; what it says of that matters to nobody."""
        with suppress(pa.ArrowException, OSError):
            self._close()

    def _close(self) -> None:
        """Close the stream once the listener has read all of it: closing and reading at once would wait for ever."""
        if self._listener.is_alive():
            with suppress(pa.ArrowException, OSError):
                self._writer.done_writing()
            self._listener.join()
        self._writer.close()

    def _write(self, batch: pa.RecordBatch) -> None:
        try:
            self._writer.write_batch(batch)
        except (pa.ArrowException, OSError) as exc:
            self.end()  # a stream that the server ended says why when it is closed
            raise RetryableError("cancelled", f"the connection broke while rows were sent ({exc})") from exc

    def _listen(self) -> None:
        """Read answers until the stream ends. Why it ended, closing it says."""
        with suppress(pa.ArrowException, OSError):
            while (answer := self._reader.read()) is not None:
                self._answers.put(json.loads(answer.to_pybytes()))
        self._answers.put(None)

    def _hear_what_is_there(self) -> None:
        with suppress(queue.Empty):
            while (answer := self._answers.get_nowait()) is not None:
                self._take(answer)
            self._answers.put(None)  # the stream has ended early: ``finish`` must see that, too

    def _take(self, answer: dict[str, Any]) -> None:
        if answer["type"] == "progress":
            self._acknowledged = answer["rows"], answer["bytes"]

    def _tell(self) -> None:
        if self._on_progress is None:
            return
        rows, size = self._acknowledged
        self._on_progress(
            Progress(rows_sent=self._rows, bytes_sent=self._bytes, rows_acknowledged=rows, bytes_acknowledged=size)
        )
