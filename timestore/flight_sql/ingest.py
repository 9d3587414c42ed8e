"""The third spelling of a put's descriptor: the ``CommandStatementIngest`` of Flight SQL, as ADBC sends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from timestore.descriptor import (
    EXPECTED_ROWS_HEADER,
    IDEMPOTENCY_HEADER,
    KEY_HEADER,
    EndRule,
    PutDescriptor,
    Target,
    with_headers,
)
from timestore.errors import TimestoreError, error
from timestore.flight_sql.messages import CATALOG, SCHEMA, command_name, encode, parse_command
from timestore.names import parse_dataset_name

INGEST = "CommandStatementIngest"
OPTIONS = (IDEMPOTENCY_HEADER, KEY_HEADER, EXPECTED_ROWS_HEADER)  # for clients that can set no headers
# TableDefinitionOptions: what to do if the table does not exist, and if it does; 0 is "do not use" in both.
_CREATE, _FAIL_IF_MISSING = 1, 2
_FAIL_IF_THERE, _APPEND, _REPLACE = 1, 2, 3
_TARGETS = {
    (_FAIL_IF_MISSING, _APPEND): Target.EXISTING,
    (_CREATE, _FAIL_IF_THERE): Target.NEW,
    (_CREATE, _APPEND): Target.ANY,
}


def parse_ingest(command: bytes, headers: Mapping[str, str]) -> PutDescriptor | None:
    """Parse an ingest command with the headers beside it; None if the command is not one.

    The stream has no sign of its end, so its end is trusted. Raises ``descriptor_invalid``, ``name_invalid``, or
    ``unsupported`` for what only databases have.
    """
    if command_name(command) != INGEST:
        return None
    message = parse_command(command)
    assert message is not None  # it has a name
    ingest = message.fields
    _refuse_what_databases_have(ingest)
    body = PutDescriptor(dataset=parse_dataset_name(ingest.table), target=_target(ingest), end=EndRule.EOF)
    return with_headers(body, _with_options(headers, ingest.options), end_given=True)


def encode_update_count(rows: int) -> bytes:
    """Encode the only answer on an ingest stream: ``DoPutUpdateResult`` with its record count."""
    return encode("DoPutUpdateResult", record_count=rows)


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
    """Refuse other catalogs and schemas, temporary tables, transactions and options: none may be ignored silently."""
    for field, ours in (("catalog", CATALOG), ("schema", SCHEMA)):
        if getattr(ingest, field) not in ("", ours):
            raise _unsupported(
                f"{INGEST} into another {field} than {ours!r} is not supported; leave it out", field=field
            )
    for field in ("temporary", "transaction_id"):
        if getattr(ingest, field):
            raise _unsupported(f"{INGEST} with {field} is not supported; leave it out", field=field)
    if len(UnknownFieldSet(ingest)) or len(UnknownFieldSet(ingest.table_definition_options)):
        raise _unsupported(f"{INGEST} has fields that this version does not know")


def _with_options(headers: Mapping[str, str], options: Mapping[str, str]) -> dict[str, str]:
    """Take options as the headers whose names they have; one that is given both ways must have equal values."""
    taken = dict(headers)
    for name, value in options.items():
        if name not in OPTIONS:
            raise _unsupported(f"{INGEST} with the option {name[:60]!a} is not supported; there are {list(OPTIONS)}")
        if taken.setdefault(name, value) != value:
            raise _invalid(f"{name} is given as a header and as an option, with different values")
    return taken


def _invalid(message: str) -> TimestoreError:
    return error("descriptor_invalid", message)


def _unsupported(message: str, **details: object) -> TimestoreError:
    return error("unsupported", message, details=details)
