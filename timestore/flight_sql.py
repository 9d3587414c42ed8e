"""The third spelling of a put's descriptor: the ``CommandStatementIngest`` of Flight SQL, as ADBC sends it.

No other part of Flight SQL is spoken here: its commands and actions are recognised only to be refused by name.
Source of the message: arrow/format/FlightSql.proto. It is declared by hand, because it is the only one that is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from timestore.descriptor import EndRule, PutDescriptor, Target, with_headers
from timestore.errors import TimestoreError, error
from timestore.json_object import MAX_JSON_BYTES
from timestore.names import parse_dataset_name

PACKAGE = "arrow.flight.protocol.sql"
TYPE_PREFIX = f"type.googleapis.com/{PACKAGE}."
INGEST = "CommandStatementIngest"
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

# TableDefinitionOptions: what to do if the table does not exist, and if it does; 0 is "do not use" in both.
_CREATE, _FAIL_IF_MISSING = 1, 2
_FAIL_IF_THERE, _APPEND, _REPLACE = 1, 2, 3
_TARGETS = {
    (_FAIL_IF_MISSING, _APPEND): Target.EXISTING,
    (_CREATE, _FAIL_IF_THERE): Target.NEW,
    (_CREATE, _APPEND): Target.ANY,
}


def command_name(command: bytes) -> str | None:
    """Return the name of a Flight SQL message wrapped in ``Any``; None if these bytes are none."""
    wrapped = _unwrap(command)
    return wrapped.type_url.removeprefix(TYPE_PREFIX) if wrapped is not None else None


def refuse_command(command: bytes) -> None:
    """Raise ``unsupported`` if a descriptor's command, or a ticket, is a message of Flight SQL."""
    name = command_name(command)
    if name is not None:
        raise _unsupported(
            f"SQL over Flight is not there yet, so {name[:60]!a} cannot be answered; read with get_flight_info and the "
            'JSON descriptor {"v": 1, "dataset": ...}, append with do_put or adbc_ingest',
            command=name,
        )


def refuse_action(name: str) -> None:
    """Raise ``unsupported`` if an action is one of Flight SQL's or of its sessions."""
    if name in ACTIONS:
        raise _unsupported(
            f"SQL over Flight is not there yet: there are no statements, transactions or sessions, so {name} does "
            "nothing; list_actions names what there is",
            action=name,
        )


def parse_ingest(command: bytes, headers: Mapping[str, str]) -> PutDescriptor | None:
    """Parse an ingest command with the headers beside it; None if the command is not one.

    The stream has no sign of its end, so its end is trusted. Raises ``descriptor_invalid``, ``name_invalid``, or
    ``unsupported`` for what only databases have.
    """
    wrapped = _unwrap(command)
    if wrapped is None or wrapped.type_url != TYPE_PREFIX + INGEST:
        return None
    if len(command) > MAX_JSON_BYTES:
        raise _invalid(f"the {INGEST} has {len(command)} bytes, at most {MAX_JSON_BYTES} are allowed")
    try:
        ingest: Any = _INGEST_CLASS.FromString(wrapped.value)
    except DecodeError as exc:
        raise _invalid(f"the {INGEST} is not valid protobuf") from exc
    _refuse_what_databases_have(ingest)
    body = PutDescriptor(dataset=parse_dataset_name(ingest.table), target=_target(ingest), end=EndRule.EOF)
    return with_headers(body, headers, end_given=True)


def encode_update_count(rows: int) -> bytes:
    """Encode the only answer on an ingest stream: ``DoPutUpdateResult`` with its record count."""
    encoded: bytes = _RESULT_CLASS(record_count=rows).SerializeToString()
    return encoded


def _unwrap(command: bytes) -> AnyMessage | None:
    # JSON never parses as an Any with such a type: a type starts with its tag and length, then with this very prefix.
    try:
        wrapped = AnyMessage.FromString(command)
    except DecodeError:
        return None
    return wrapped if wrapped.type_url.startswith(TYPE_PREFIX) else None


def _target(ingest: Any) -> Target:
    options = ingest.table_definition_options
    chosen = (options.if_not_exist, options.if_exists)
    if options.if_exists == _REPLACE:
        raise _unsupported("mode replace is not supported: rows are only ever appended; use append or create_append")
    if chosen not in _TARGETS:
        raise _invalid(
            f"the table definition options (if_not_exist, if_exists) are {chosen}; use those of append, create or "
            "create_append"
        )
    return _TARGETS[chosen]


def _refuse_what_databases_have(ingest: Any) -> None:
    """Refuse catalogs, schemas, temporary tables, transactions and options: none of them may be ignored silently."""
    for field in ("catalog", "schema", "temporary", "transaction_id", "options"):
        if getattr(ingest, field):
            raise _unsupported(f"{INGEST} with {field} is not supported; leave it out", field=field)
    if len(UnknownFieldSet(ingest)) or len(UnknownFieldSet(ingest.table_definition_options)):
        raise _unsupported(f"{INGEST} has fields that this version does not know")


def _invalid(message: str) -> TimestoreError:
    return error("descriptor_invalid", message)


def _unsupported(message: str, **details: object) -> TimestoreError:
    return error("unsupported", message, details=details)


# The part of FlightSql.proto that is spoken, as a FileDescriptorProto. Enums stand as integers: the same bytes.
_DECLARATION = """
name: "timestore/flight_sql.proto" package: "arrow.flight.protocol.sql" syntax: "proto3"
message_type {
  name: "TableDefinitionOptions"
  field { name: "if_not_exist" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "if_exists" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
}
message_type {
  name: "CommandStatementIngest"
  field {
    name: "table_definition_options" number: 1 type: TYPE_MESSAGE label: LABEL_OPTIONAL
    type_name: ".arrow.flight.protocol.sql.TableDefinitionOptions"
  }
  field { name: "table" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "schema" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "catalog" number: 4 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "temporary" number: 5 type: TYPE_BOOL label: LABEL_OPTIONAL }
  field { name: "transaction_id" number: 6 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field {
    name: "options" number: 1000 type: TYPE_MESSAGE label: LABEL_REPEATED
    type_name: ".arrow.flight.protocol.sql.CommandStatementIngest.OptionsEntry"
  }
  nested_type {
    name: "OptionsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  }
}
message_type {
  name: "DoPutUpdateResult"
  field { name: "record_count" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
}
"""


def _message_class(pool: descriptor_pool.DescriptorPool, name: str) -> type[Any]:
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
    return found


# A pool of its own, where no other package's declaration of the same messages can collide.
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(text_format.Parse(_DECLARATION, descriptor_pb2.FileDescriptorProto()))
_INGEST_CLASS = _message_class(_POOL, INGEST)
_RESULT_CLASS = _message_class(_POOL, "DoPutUpdateResult")
