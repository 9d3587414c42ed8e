"""The Flight door: parse, call, answer. No rule of the domain lives here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from flight_server.actions import Actions
from flight_server.answers import answering, answering_untranslated
from flight_server.middleware import HEADERS, CallHeadersFactory, call_headers
from flight_server.put_stream import answers_for, parse_put, receive
from readers.plain import has_dictionary
from readers.reads import ReadPlan, Reads
from timestore.errors import error
from timestore.flight_sql import refuse_action, refuse_command
from timestore.reading import TICKET_LIFETIME, ReadDescriptor, Ticket, parse_listing_criteria
from writers.ingestion import Ingestion


class FlightDoor(flight.FlightServerBase):
    """The RPCs. Each runs on a thread of its own; pyarrow starts as many as there are calls."""

    def __init__(self, *, location: str, ingestion: Ingestion, reads: Reads, actions: Actions) -> None:
        self._ingestion = ingestion
        self._reads = reads
        self._actions = actions
        super().__init__(location, middleware={HEADERS: CallHeadersFactory()})  # the port answers from here on

    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """Append a stream to a dataset: PROTOCOL 1."""
        with answering("do_put"):
            parsed = parse_put(descriptor, call_headers(context))
            answers = answers_for(descriptor, writer)
            receive(context=context, descriptor=parsed, reader=reader, answers=answers, ingestion=self._ingestion)

    def get_flight_info(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
    ) -> flight.FlightInfo:
        """Plan a read: one endpoint for each run of partitions, all at one version."""
        with answering("get_flight_info"):
            return _flight_info(descriptor, self._reads.plan(_parse_read(descriptor)))

    def get_schema(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
    ) -> flight.SchemaResult:
        """Return the schema that a read has."""
        with answering_untranslated("get_schema"):
            return flight.SchemaResult(self._reads.schema(_parse_read(descriptor)))

    def list_flights(
        self,
        context: flight.ServerCallContext,
        criteria: bytes,
    ) -> Iterator[flight.FlightInfo]:
        """List the datasets, each as one flight of everything at its newest version."""
        with answering("list_flights"):
            for descriptor, plan in self._reads.listing(parse_listing_criteria(criteria)):
                yield _flight_info(flight.FlightDescriptor.for_command(descriptor.to_command()), plan)

    def do_exchange(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.MetadataRecordBatchWriter,
    ) -> None:
        """Refuse: there is nothing to exchange."""
        with answering("do_exchange"):
            raise error("unsupported", "do_exchange is not used here; append with do_put, read with do_get")

    def do_get(
        self,
        context: flight.ServerCallContext,
        ticket: flight.Ticket,
    ) -> flight.FlightDataStream:
        """Stream the rows of one endpoint."""
        with answering("do_get"):
            refuse_command(ticket.ticket)
            schema, batches = self._reads.open(Ticket.parse(ticket.ticket))
            return flight.GeneratorStream(schema, _with_dictionaries(schema, _answered(batches)))

    def do_action(
        self,
        context: flight.ServerCallContext,
        action: flight.Action,
    ) -> Iterator[flight.Result]:
        """Run an action; each result is one JSON object, or one Arrow stream."""
        with answering("do_action"):
            refuse_action(action.type)
            for result in self._actions.run(action.type, action.body.to_pybytes()):
                yield flight.Result(result)

    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:
        """Name the actions."""
        return [(action.name, action.help) for action in self._actions.table.values()]


def _flight_info(descriptor: flight.FlightDescriptor, plan: ReadPlan) -> flight.FlightInfo:
    expires = pa.scalar(datetime.now(UTC) + TICKET_LIFETIME, pa.timestamp("ns", "UTC"))
    endpoints = [flight.FlightEndpoint(part.ticket.to_bytes(), [], expires) for part in plan.parts]
    rows, size = sum(part.rows for part in plan.parts), sum(part.bytes for part in plan.parts)
    return flight.FlightInfo(plan.schema, descriptor, endpoints, rows, size)


def _parse_read(descriptor: flight.FlightDescriptor) -> ReadDescriptor:
    if descriptor.descriptor_type == flight.DescriptorType.CMD:
        refuse_command(descriptor.command)
        return ReadDescriptor.parse_command(descriptor.command)
    if descriptor.descriptor_type == flight.DescriptorType.PATH:
        return ReadDescriptor.parse_path(descriptor.path)
    raise error("descriptor_invalid", "the descriptor has neither a command nor a path; name a dataset")


def _with_dictionaries(schema: pa.Schema, batches: Iterator[Any]) -> Iterator[Any]:
    """Send each batch as a stream of its own where there are dictionaries: pyarrow sends a bare batch without them."""
    if not has_dictionary(schema):
        yield from batches
        return
    for batch in batches:
        yield pa.Table.from_batches([batch])


def _answered(batches: Iterator[Any]) -> Iterator[Any]:
    """Translate what goes wrong in the middle of a stream."""
    with answering("do_get"):
        yield from batches
