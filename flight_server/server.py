"""The Flight door: parse, call, answer. No rule of the domain lives here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from access.authenticator import Authenticator
from access.principal import Principal
from flight_server.actions import Actions
from flight_server.answers import answering, answering_untranslated
from flight_server.flight_sql import FlightSql
from flight_server.middleware import HEADERS, CallHeadersFactory, NoHandshake, call_headers, principal_of
from flight_server.put_stream import answers_for, bound_statement, parse_put, receive
from readers.plain import has_dictionary
from readers.reads import ReadPlan, Reads
from timestore.errors import error
from timestore.flight_sql import ACTIONS, Message, parse_command
from timestore.reading import TICKET_LIFETIME, ReadDescriptor, Ticket, parse_listing_criteria
from writers.ingestion import Ingestion


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsIdentity:
    """What the server proves itself with, and whose client certificates it asks for, all as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None  # None: clients need no certificate


class FlightDoor(flight.FlightServerBase):
    """The RPCs. Each runs on a thread of its own; pyarrow starts as many as there are calls."""

    def __init__(
        self,
        *,
        location: str,
        ingestion: Ingestion,
        reads: Reads,
        actions: Actions,
        flight_sql: FlightSql,
        authenticator: Authenticator,
        tls: TlsIdentity | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._ingestion = ingestion
        self._reads = reads
        self._actions = actions
        self._flight_sql = flight_sql
        client_ca = tls.client_ca if tls is not None else None
        super().__init__(  # the port answers from here on
            location,
            # With a handler of handshakes, pyarrow does not tell whose certificate a client has.
            auth_handler=NoHandshake() if authenticator.required and client_ca is None else None,
            tls_certificates=[(tls.certificate, tls.key)] if tls is not None else None,
            verify_client=client_ca is not None,
            root_certificates=client_ca,
            middleware={HEADERS: CallHeadersFactory(authenticator)},
        )

    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """Append a stream to a dataset: PROTOCOL 1. Or bind the parameters of a prepared statement."""
        with answering("do_put"):
            principal = self._caller(context)
            if (statement := bound_statement(descriptor)) is not None:
                writer.write(pa.py_buffer(self._flight_sql.bind(statement, reader)))
                return
            parsed = parse_put(descriptor, call_headers(context).texts())
            receive(
                context=context,
                descriptor=parsed,
                reader=reader,
                answers=answers_for(descriptor, writer),
                ingestion=self._ingestion,
                principal=principal,
            )

    def get_flight_info(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
    ) -> flight.FlightInfo:
        """Plan a read: one endpoint for each run of partitions, all at one version. Or plan a query."""
        with answering("get_flight_info"):
            principal = self._caller(context)
            if (command := _sql_command(descriptor)) is not None:
                return self._flight_sql.info(descriptor, command, call_headers(context).texts(), principal)
            return _flight_info(descriptor, self._reads.plan(_parse_read(descriptor), principal))

    def get_schema(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
    ) -> flight.SchemaResult:
        """Return the schema that a read has."""
        with answering_untranslated("get_schema"):
            principal = self._caller(context)
            if (command := _sql_command(descriptor)) is not None:
                schema = self._flight_sql.schema(command, call_headers(context).texts(), principal)
                return flight.SchemaResult(schema)
            return flight.SchemaResult(self._reads.schema(_parse_read(descriptor), principal))

    def list_flights(
        self,
        context: flight.ServerCallContext,
        criteria: bytes,
    ) -> Iterator[flight.FlightInfo]:
        """List the datasets, each as one flight of everything at its newest version."""
        with answering("list_flights"):
            principal = self._caller(context)
            for descriptor, plan in self._reads.listing(parse_listing_criteria(criteria), principal):
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
            self._caller(context)
            raise error("unsupported", "do_exchange is not used here; append with do_put, read with do_get")

    def do_get(
        self,
        context: flight.ServerCallContext,
        ticket: flight.Ticket,
    ) -> flight.FlightDataStream:
        """Stream the rows of one endpoint, or of a query."""
        with answering("do_get"):
            principal = self._caller(context)
            rows = self._flight_sql.rows(ticket.ticket, call_headers(context).texts(), principal)
            schema, batches = rows if rows is not None else self._reads.open(Ticket.parse(ticket.ticket), principal)
            return flight.GeneratorStream(schema, _with_dictionaries(schema, _answered(batches)))

    def do_action(
        self,
        context: flight.ServerCallContext,
        action: flight.Action,
    ) -> Iterator[flight.Result]:
        """Run an action; each result is one JSON object, or one Arrow stream."""
        with answering("do_action"):
            principal, body = self._caller(context), action.body.to_pybytes()
            if action.type in ACTIONS:
                headers = call_headers(context).texts()
                yield from map(flight.Result, self._flight_sql.act(action.type, body, headers, principal))
                return
            for result in self._actions.run(action.type, body, principal):
                yield flight.Result(result)

    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:
        """Name the actions."""
        with answering("list_actions"):
            self._caller(context)
            return [(action.name, action.help) for action in self._actions.table.values()]

    def _caller(self, context: flight.ServerCallContext) -> Principal:
        """Return whom a call is from. Every RPC asks this first; raises ``unauthenticated``."""
        certificate = context.peer_identity().decode(errors="replace")
        return principal_of(call_headers(context), certificate, self._authenticator)


def _flight_info(descriptor: flight.FlightDescriptor, plan: ReadPlan) -> flight.FlightInfo:
    expires = pa.scalar(datetime.now(UTC) + TICKET_LIFETIME, pa.timestamp("ns", "UTC"))
    endpoints = [flight.FlightEndpoint(part.ticket.to_bytes(), [], expires) for part in plan.parts]
    rows, size = sum(part.rows for part in plan.parts), sum(part.bytes for part in plan.parts)
    return flight.FlightInfo(plan.schema, descriptor, endpoints, rows, size)


def _sql_command(descriptor: flight.FlightDescriptor) -> Message | None:
    return parse_command(descriptor.command) if descriptor.descriptor_type == flight.DescriptorType.CMD else None


def _parse_read(descriptor: flight.FlightDescriptor) -> ReadDescriptor:
    if descriptor.descriptor_type == flight.DescriptorType.CMD:
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
