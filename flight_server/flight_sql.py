"""The part of the Flight door that speaks Flight SQL: metadata, statements, prepared statements, sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.flight as flight

from access.principal import Principal
from flight_server.answers import reading_stream
from readers.sql import MAX_TIMEOUT_S, SqlQueries
from readers.sql_metadata import SqlMetadata
from readers.sql_tables import DEFAULT_TIMEOUT_S, SqlQuery
from timestore.errors import error
from timestore.flight_sql import CATALOG, SCHEMA, Message, Statement, encode, parse_action, parse_command, refuse_action
from timestore.flight_sql.statements import Described, PinnedDataset
from timestore.reading import TICKET_LIFETIME, AsOf
from timestore.windows import parse_instant

VERSION_HEADER = "x-timestore-version"
AS_OF_HEADER = "x-timestore-as-of"
TIMEOUT_HEADER = "x-timestore-timeout-s"
MAX_PARAMETER_BYTES = 256 << 10
MAX_DESCRIBED_BYTES = 64 << 10  # of a schema in a handle, which travels with each call
_SESSION_CLOSED = 1
_INSTANT = pa.timestamp("ns", "UTC")

Headers = Mapping[str, str]
Rows = tuple[pa.Schema, Iterator[pa.RecordBatch]]


class FlightSql:
    """Answers Flight SQL. It keeps nothing between calls: handles and tickets say all. Thread safe."""

    def __init__(self, *, queries: SqlQueries, metadata: SqlMetadata) -> None:
        self._queries = queries
        self._metadata = metadata
        self._actions = {
            "CreatePreparedStatement": self._prepare,
            "ClosePreparedStatement": self._close_statement,
            "CloseSession": self._close_session,
            "GetSessionOptions": self._session_options,
        }

    def info(
        self, descriptor: flight.FlightDescriptor, command: Message, headers: Headers, principal: Principal
    ) -> flight.FlightInfo:
        """Plan a statement, at versions that its ticket names; or say where metadata is read."""
        if (listing := self._metadata.listing(command, principal)) is not None:
            return _info(listing.schema, descriptor, descriptor.command)
        statement = _statement(command, headers)
        schema, pinned = self._planned(statement, headers, principal)
        planned = replace(statement, described=None, pinned=pinned)
        ticket = encode("TicketStatementQuery", wrapped=True, statement_handle=planned.to_bytes())
        return _info(schema, descriptor, ticket, expires=pa.scalar(datetime.now(UTC) + TICKET_LIFETIME, _INSTANT))

    def _planned(
        self, statement: Statement, headers: Headers, principal: Principal
    ) -> tuple[pa.Schema, Mapping[str, PinnedDataset]]:
        """Return a statement's schema and versions: from its handle, if that has it and still holds."""
        described, query = statement.described, _query(statement, headers)
        if described is not None and query.parameters is None and query.as_of == AsOf():
            pinned = self._queries.pin(described.shapes, principal)
            if pinned is not None:
                return _read_schema(described.schema), pinned
        plan = self._queries.plan(query, principal)
        return plan.schema, plan.pinned

    def schema(self, command: Message, headers: Headers, principal: Principal) -> pa.Schema:
        """Return the schema of what a command gives."""
        if (listing := self._metadata.listing(command, principal)) is not None:
            return listing.schema
        return self._queries.plan(_query(_statement(command, headers), headers), principal).schema

    def rows(self, ticket: bytes, headers: Headers, principal: Principal) -> Rows | None:
        """Return the rows of a ticket; None if it is none of Flight SQL's."""
        command = parse_command(ticket)
        if command is None:
            return None
        if (listing := self._metadata.listing(command, principal)) is not None:
            return listing.schema, iter(listing.batches)
        if command.name != "TicketStatementQuery":
            raise error("descriptor_invalid", f"{command.name} is no ticket; ask get_flight_info for one")
        statement = Statement.parse(command.fields.statement_handle)
        batches = self._queries.rows(_query(statement, headers), principal)
        first = next(batches)
        return first.schema, _after(first, batches)

    def bind(self, command: Message, reader: flight.MetadataRecordBatchReader) -> bytes:
        """Take the parameters of a prepared statement; return the answer, which has the handle to go on with."""
        statement = Statement.parse(command.fields.prepared_statement_handle)
        bound = replace(statement, parameters=_read_parameters(reader))
        return encode("DoPutPreparedStatementResult", prepared_statement_handle=bound.to_bytes())

    def act(self, name: str, body: bytes, headers: Headers, principal: Principal) -> list[bytes]:
        """Run one of Flight SQL's actions; raises ``unsupported`` for those that do nothing here."""
        run = self._actions.get(name)
        if run is None:
            refuse_action(name)
        assert run is not None  # or it was refused
        return run(body, headers, principal)

    def _prepare(self, body: bytes, headers: Headers, principal: Principal) -> list[bytes]:
        request = parse_action("CreatePreparedStatement", body)
        statement = _statement(request, headers)
        query = _query(statement, headers)
        plan = self._queries.plan(query, principal)
        schema = plan.schema.serialize().to_pybytes()
        if len(schema) <= MAX_DESCRIBED_BYTES and query.as_of == AsOf():
            statement = replace(statement, described=Described(schema=schema, shapes=plan.shapes))
        return [
            encode(
                "ActionCreatePreparedStatementResult",
                wrapped=True,
                prepared_statement_handle=statement.to_bytes(),
                dataset_schema=schema,
                parameter_schema=plan.parameters.serialize().to_pybytes(),
            )
        ]

    def _close_statement(self, body: bytes, _headers: Headers, _principal: Principal) -> list[bytes]:
        parse_action("ClosePreparedStatement", body)  # there is nothing to close
        return []

    def _close_session(self, _body: bytes, _headers: Headers, _principal: Principal) -> list[bytes]:
        return [encode("CloseSessionResult", status=_SESSION_CLOSED)]

    def _session_options(self, _body: bytes, _headers: Headers, _principal: Principal) -> list[bytes]:
        options = {"catalog": {"string_value": CATALOG}, "schema": {"string_value": SCHEMA}}
        return [encode("GetSessionOptionsResult", session_options=options)]


def _read_schema(encoded: bytes) -> pa.Schema:
    try:
        return pa.ipc.read_schema(pa.py_buffer(encoded))
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise error("descriptor_invalid", "the schema in a statement handle is not an Arrow schema") from exc


def _statement(command: Message, headers: Headers) -> Statement:
    if command.name == "CommandPreparedStatementQuery":
        return Statement.parse(command.fields.prepared_statement_handle)
    if command.name not in ("CommandStatementQuery", "ActionCreatePreparedStatementRequest"):
        raise error("unsupported", f"{command.name} is not supported here", details={"command": command.name})
    if command.fields.transaction_id:
        raise error("unsupported", "a transaction is named, and there are none; connect with autocommit")
    return Statement(query=command.fields.query, timeout_s=_timeout_s(headers))


def _query(statement: Statement, headers: Headers) -> SqlQuery:
    return SqlQuery(
        text=statement.query,
        parameters=statement.parameters,
        pinned=statement.pinned,
        as_of=_as_of(headers) if statement.pinned is None else AsOf(),
        timeout_s=min(statement.timeout_s or DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S),
    )


def _as_of(headers: Headers) -> AsOf:
    """Return the version that the headers of a call ask for; the newest, if they say nothing."""
    version, moment = headers.get(VERSION_HEADER), headers.get(AS_OF_HEADER)
    if version is not None and moment is not None:
        raise error("descriptor_invalid", f"give either {VERSION_HEADER} or {AS_OF_HEADER}, not both")
    if version is not None and not (version.isascii() and version.isdecimal() and len(version) < 19):
        raise error("descriptor_invalid", f"{VERSION_HEADER} is {version[:40]!a}, which is no version")
    return AsOf(
        version=int(version) if version is not None else None,
        moment=parse_instant(moment) if moment is not None else None,
    )


def _timeout_s(headers: Headers) -> float | None:
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return None
    seconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise error(
            "descriptor_invalid", f"{TIMEOUT_HEADER} is {text[:40]!a}; it may be whole seconds, 1 to {MAX_TIMEOUT_S:g}"
        )
    return float(seconds)


def _info(
    schema: pa.Schema, descriptor: flight.FlightDescriptor, ticket: bytes, expires: pa.Scalar | None = None
) -> flight.FlightInfo:
    return flight.FlightInfo(schema, descriptor, [flight.FlightEndpoint(ticket, [], expires)], -1, -1)


def _read_parameters(reader: flight.MetadataRecordBatchReader) -> bytes:
    """Encode what comes as a stream of its own, batch by batch: a batch may keep more in memory than its rows take."""
    with reading_stream():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, reader.schema) as writer:
            for chunk in reader:
                if chunk.data is None:
                    continue
                chunk.data.validate(full=True)
                writer.write_batch(chunk.data)
                _check_parameter_bytes(sink.tell())
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _check_parameter_bytes(size: int) -> None:
    if size > MAX_PARAMETER_BYTES:
        raise error(
            "query_too_expensive",
            f"the parameters take over {MAX_PARAMETER_BYTES} bytes; put many values into a dataset, and join with it",
            details={"limit": MAX_PARAMETER_BYTES},
        )


def _after(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
