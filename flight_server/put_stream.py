"""The put stream: read batches one by one, answer ``ready``, ``committed``, ``progress`` and ``receipt``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import structlog

from access.principal import Principal
from flight_server.answers import reading_stream
from timestore.descriptor import PROTOCOL_VERSION, PutDescriptor, parse_put_command, parse_put_path
from timestore.errors import error
from timestore.flight_sql import Message, command_name, encode_update_count, parse_command, parse_ingest, refuse_command
from timestore.json_object import JsonObject, canonical_json
from timestore.receipt import Receipt
from writers.commit_log import log_commit
from writers.ingestion import Ingestion
from writers.put import Cancelled, PutStream

PROGRESS_INTERVAL_S = 1.0
# Progress comes ever more seldom: a client that reads no answers is frozen once they fill its window, often 64 KiB. So
# a put of an hour sends 125 of them, a put of a week 230, at 60 bytes each.
PROGRESS_GROWTH = 0.05

log = structlog.get_logger()


def parse_put(descriptor: flight.FlightDescriptor, headers: dict[str, str]) -> PutDescriptor:
    """Parse a put's descriptor in any of its spellings."""
    if descriptor.descriptor_type == flight.DescriptorType.CMD:
        if (ingest := parse_ingest(descriptor.command, headers)) is not None:
            return ingest
        refuse_command(descriptor.command)
        return parse_put_command(descriptor.command, headers)
    return parse_put_path(descriptor.path or [], headers)


def bound_statement(descriptor: flight.FlightDescriptor) -> Message | None:
    """Return the prepared statement whose parameters a stream has; None if the stream is a put."""
    if descriptor.descriptor_type != flight.DescriptorType.CMD:
        return None
    if command_name(descriptor.command) != "CommandPreparedStatementQuery":
        return None
    return parse_command(descriptor.command)


def receive(
    *,
    context: flight.ServerCallContext,
    descriptor: PutDescriptor,
    reader: flight.MetadataRecordBatchReader,
    answers: Answers,
    ingestion: Ingestion,
    principal: Principal,
) -> None:
    """Take a whole put stream and answer it."""
    with reading_stream():
        schema: pa.Schema = reader.schema
        schema.names  # noqa: B018  # raises on names that are not UTF-8
    with ingestion.put(descriptor, schema, principal) as put:
        answers.begin(put)
        marker_rows = _take_batches(put, reader, answers, context.is_cancelled)
        receipt = put.finish(marker_rows=marker_rows, is_cancelled=context.is_cancelled)
    # The commit is done, and the put holds nothing any more: a client that takes its time here keeps only this thread.
    # One that went away meanwhile learns of the commit by sending the put again.
    log_commit(receipt, principal, door="flight")
    answers.finish(receipt)


def answers_for(descriptor: flight.FlightDescriptor, writer: flight.FlightMetadataWriter) -> Answers:
    """Return the answers that the client of a put understands."""
    spoken_sql = descriptor.descriptor_type == flight.DescriptorType.CMD and command_name(descriptor.command)
    return SqlAnswers(writer) if spoken_sql else Answers(writer)


class Answers:
    """Writes the answers of one put."""

    def __init__(self, writer: flight.FlightMetadataWriter) -> None:
        self._writer = writer
        self._started = time.monotonic()
        self._next_progress = self._started + PROGRESS_INTERVAL_S

    def begin(self, put: PutStream) -> None:
        with put.watch.waiting_for_client():
            if put.committed is not None:
                self.send({"type": "committed", "v": PROTOCOL_VERSION, "receipt": put.committed.as_json()})
                return
            self.send(
                {
                    "type": "ready",
                    "v": PROTOCOL_VERSION,
                    "dataset": put.descriptor.dataset,
                    "schema_version": put.schema_version,
                    "idempotency_key": put.idempotency_key,
                }
            )

    def progress(self, put: PutStream) -> None:
        """Tell how far the put is, at most once a second, and all in all not often."""
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + max(PROGRESS_INTERVAL_S, PROGRESS_GROWTH * (now - self._started))
            with put.watch.waiting_for_client():
                self.send({"type": "progress", "rows": put.rows, "bytes": put.bytes})

    def finish(self, receipt: Receipt) -> None:
        self.send(receipt.as_json())

    def send(self, fields: dict[str, Any]) -> None:
        _write(self._writer, canonical_json(fields).encode())


class SqlAnswers(Answers):
    """The answers of a Flight SQL ingest: a row count at the end. Any earlier frame would break its client."""

    def begin(self, put: PutStream) -> None:
        """Say nothing."""

    def progress(self, put: PutStream) -> None:
        """Say nothing."""

    def finish(self, receipt: Receipt) -> None:
        _write(self._writer, encode_update_count(receipt.rows))


def _write(writer: flight.FlightMetadataWriter, answer: bytes) -> None:
    try:
        writer.write(pa.py_buffer(answer))
    except (pa.ArrowException, OSError):
        # The client is gone. Whether that matters, `is_cancelled` says before the commit.
        log.debug("answer.lost", bytes=len(answer))


def _take_batches(
    put: PutStream, reader: flight.MetadataRecordBatchReader, answers: Answers, is_cancelled: Cancelled
) -> int | None:
    """Hand every batch to the put; return the row count of the end marker, None if there was none."""
    marker_rows: int | None = None
    for chunk in _chunks(put, reader, is_cancelled):
        if marker_rows is not None:
            raise error("end_missing", "a message came after the end marker; send the marker last")
        if chunk.data is None:
            marker_rows = parse_end_marker(chunk.app_metadata)
            continue
        put.add(chunk.data)
        put.pace.took(chunk.data.nbytes)
        if chunk.data.num_rows:
            put.watch.took_rows()
        answers.progress(put)
    return marker_rows


def _chunks(
    put: PutStream, reader: flight.MetadataRecordBatchReader, is_cancelled: Cancelled
) -> Iterator[flight.FlightStreamChunk]:
    while True:
        put.pace.wait(is_cancelled)
        put.make_room()
        try:
            with put.watch.waiting_for_client(), reading_stream():
                chunk = reader.read_chunk()
        except StopIteration:
            return
        yield chunk


def parse_end_marker(metadata: pa.Buffer | None) -> int:
    """Read the end marker ``{"end": true, "rows": n}``; raises ``descriptor_invalid``."""
    fields = JsonObject.parse(metadata.to_pybytes() if metadata is not None else b"", what="end marker")
    ended, rows = fields.flag("end"), fields.integer("rows")
    fields.finish()
    if not ended or rows is None:
        raise error("descriptor_invalid", 'a metadata-only message must be the end marker {"end": true, "rows": n}')
    return rows
