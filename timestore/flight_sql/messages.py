"""The messages of Flight SQL that are spoken here, declared as one table.

Source: arrow/format/FlightSql.proto, and arrow/format/Flight.proto for sessions. Enums stand as integers: the same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from timestore.errors import TimestoreError, error
from timestore.json_object import MAX_JSON_BYTES

# What a dataset's table is qualified by. Timestore has neither; but tools look for tables below both.
CATALOG = "timestore"
SCHEMA = "main"

PACKAGE = "arrow.flight.protocol.sql"
SESSION_PACKAGE = "arrow.flight.protocol"
TYPE_PREFIX = f"type.googleapis.com/{PACKAGE}."

# What clients of Flight SQL and of its sessions call. (CancelFlightInfo and RenewFlightEndpoint are Flight's own.)
ACTIONS = frozenset(
    {
        "BeginSavepoint",
        "BeginTransaction",
        "CancelQuery",
        "ClosePreparedStatement",
        "CloseSession",
        "CreatePreparedStatement",
        "CreatePreparedSubstraitPlan",
        "EndSavepoint",
        "EndTransaction",
        "GetSessionOptions",
        "SetSessionOptions",
    }
)

_OPTIONAL, _REPEATED, _MAP = "optional", "repeated", "map"  # absent and empty differ only for what is optional
_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
}
# By message: each field as "number name type", and the word that makes it more than one value of that type.
_KEYS = ("1 catalog string optional", "2 db_schema string optional", "3 table string")
_MESSAGES: Mapping[str, tuple[str, ...]] = {
    "TableDefinitionOptions": ("1 if_not_exist int32", "2 if_exists int32"),
    "CommandStatementIngest": (
        "1 table_definition_options TableDefinitionOptions",
        "2 table string",
        "3 schema string",
        "4 catalog string",
        "5 temporary bool",
        "6 transaction_id bytes",
        "1000 options string map",
    ),
    "DoPutUpdateResult": ("1 record_count int64",),
    "CommandGetSqlInfo": ("1 info uint32 repeated",),
    "CommandGetXdbcTypeInfo": ("1 data_type int32 optional",),
    "CommandGetCatalogs": (),
    "CommandGetDbSchemas": ("1 catalog string optional", "2 db_schema_filter_pattern string optional"),
    "CommandGetTables": (
        "1 catalog string optional",
        "2 db_schema_filter_pattern string optional",
        "3 table_name_filter_pattern string optional",
        "4 table_types string repeated",
        "5 include_schema bool",
    ),
    "CommandGetTableTypes": (),
    "CommandGetPrimaryKeys": _KEYS,
    "CommandGetExportedKeys": _KEYS,
    "CommandGetImportedKeys": _KEYS,
    "CommandGetCrossReference": (),  # of tables that have no keys, whichever they are
    "CommandStatementQuery": ("1 query string", "2 transaction_id bytes optional"),
    "CommandStatementUpdate": ("1 query string", "2 transaction_id bytes optional"),
    "CommandPreparedStatementQuery": ("1 prepared_statement_handle bytes",),
    "CommandPreparedStatementUpdate": ("1 prepared_statement_handle bytes",),
    "TicketStatementQuery": ("1 statement_handle bytes",),
    "DoPutPreparedStatementResult": ("1 prepared_statement_handle bytes optional",),
    "ActionCreatePreparedStatementRequest": ("1 query string", "2 transaction_id bytes optional"),
    "ActionCreatePreparedStatementResult": (
        "1 prepared_statement_handle bytes",
        "2 dataset_schema bytes",
        "3 parameter_schema bytes",
    ),
    "ActionClosePreparedStatementRequest": ("1 prepared_statement_handle bytes",),
}
_SESSION_MESSAGES: Mapping[str, tuple[str, ...]] = {
    "SessionOptionValue": ("1 string_value string optional",),
    "GetSessionOptionsResult": ("1 session_options SessionOptionValue map",),
    "CloseSessionResult": ("1 status int32",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that came in an ``Any``: its name, and its fields as protobuf has them."""

    name: str
    fields: Any

    def optional(self, field: str) -> str | None:
        """Return an optional text; None if it was left out, which is not the empty text."""
        return str(getattr(self.fields, field)) if self.fields.HasField(field) else None


def command_name(command: bytes) -> str | None:
    """Return the name of a Flight SQL message wrapped in ``Any``; None if these bytes are none."""
    wrapped = _unwrap(command)
    return wrapped.type_url.removeprefix(TYPE_PREFIX) if wrapped is not None else None


def parse_command(command: bytes) -> Message | None:
    """Parse a command or a ticket; None if these bytes are not Flight SQL.

    Raises ``descriptor_invalid``, or ``unsupported`` for messages that are not spoken here.
    """
    wrapped = _unwrap(command)
    if wrapped is None:
        return None
    name = wrapped.type_url.removeprefix(TYPE_PREFIX)
    if name not in _MESSAGES:
        raise _unsupported_command(name)
    if len(command) > MAX_JSON_BYTES:
        raise _invalid(f"the {name} has {len(command)} bytes, at most {MAX_JSON_BYTES} are allowed")
    try:
        return Message(name=name, fields=_class(name).FromString(wrapped.value))
    except DecodeError as exc:
        raise _invalid(f"the {name} is not valid protobuf") from exc


def parse_action(name: str, body: bytes) -> Message:
    """Parse the body of one of Flight SQL's actions; raises ``descriptor_invalid``."""
    expected = f"Action{name}Request"
    parsed = parse_command(body)
    if parsed is None or parsed.name != expected:
        raise _invalid(f"the body of {name} must be an Any of {expected}")
    return parsed


def encode(name: str, /, *, wrapped: bool = False, **fields: object) -> bytes:
    """Encode a message; ``wrapped`` in an ``Any``, as commands, tickets and results of actions travel."""
    encoded: bytes = _class(name)(**fields).SerializeToString()
    return AnyMessage(type_url=TYPE_PREFIX + name, value=encoded).SerializeToString() if wrapped else encoded


def refuse_command(command: bytes) -> None:
    """Raise ``unsupported`` if these bytes are a message of Flight SQL, which has no place where they came."""
    name = command_name(command)
    if name is not None:
        raise _unsupported_command(name)


def refuse_action(name: str) -> None:
    """Raise ``unsupported`` for an action of Flight SQL, or of its sessions, that does nothing here."""
    if name in ACTIONS:
        raise error(
            "unsupported",
            f"{name} is not supported: there are no transactions, savepoints, Substrait plans or options of sessions. "
            "Each statement reads one version of a dataset, each ingest is one atomic append; connect with autocommit",
            details={"action": name},
        )


def _unsupported_command(name: str) -> TimestoreError:
    return error(
        "unsupported",
        f"{name[:60]!a} is not supported: SQL only reads here (statements, prepared statements, metadata); rows are "
        "appended with adbc_ingest or do_put, and datasets dropped with the action drop_dataset",
        details={"command": name},
    )


def _unwrap(command: bytes) -> AnyMessage | None:
    # JSON never parses as an Any with such a type: a type starts with its tag and length, then with this very prefix.
    try:
        wrapped = AnyMessage.FromString(command)
    except DecodeError:
        return None
    return wrapped if wrapped.type_url.startswith(TYPE_PREFIX) else None


def _invalid(message: str) -> TimestoreError:
    return error("descriptor_invalid", message)


def _declaration(package: str, messages: Mapping[str, tuple[str, ...]]) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"timestore/{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for line in fields:
            _declare(package, message, *line.split())
    return file


def _declare(
    package: str, message: descriptor_pb2.DescriptorProto, number: str, name: str, type_: str, more: str = ""
) -> None:
    labels = descriptor_pb2.FieldDescriptorProto
    label = labels.LABEL_REPEATED if more in (_REPEATED, _MAP) else labels.LABEL_OPTIONAL
    field = message.field.add(number=int(number), name=name, label=label)
    if more == _MAP:
        entry = "".join(word.capitalize() for word in name.split("_")) + "Entry"
        nested = message.nested_type.add(name=entry, options=descriptor_pb2.MessageOptions(map_entry=True))
        _declare(package, nested, "1", "key", "string")
        _declare(package, nested, "2", "value", type_)
        type_ = f"{message.name}.{entry}"
    if type_ in _TYPES:
        field.type = _TYPES[type_]
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{package}.{type_}"
    if more == _OPTIONAL:  # proto3 tells absence by a choice that has one member
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def _class(name: str) -> type[Any]:
    package = SESSION_PACKAGE if name in _SESSION_MESSAGES else PACKAGE
    found: type[Any] = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{package}.{name}"))
    return found


# A pool of its own, where no other package's declaration of the same messages can collide.
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_declaration(PACKAGE, _MESSAGES))
_POOL.Add(_declaration(SESSION_PACKAGE, _SESSION_MESSAGES))
