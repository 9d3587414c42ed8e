"""Flight SQL as bytes: its commands, actions and answers.

``messages`` declares the messages, ``ingest`` is the third spelling of a put's descriptor, and ``statements`` are the
handles and tickets of queries. What they mean for datasets, floor 3 says.
"""

from timestore.flight_sql.ingest import INGEST, encode_update_count, parse_ingest
from timestore.flight_sql.messages import (
    ACTIONS,
    CATALOG,
    SCHEMA,
    TYPE_PREFIX,
    Message,
    command_name,
    encode,
    parse_action,
    parse_command,
    refuse_action,
    refuse_command,
)
from timestore.flight_sql.statements import Statement

__all__ = [
    "ACTIONS",
    "CATALOG",
    "INGEST",
    "SCHEMA",
    "TYPE_PREFIX",
    "Message",
    "Statement",
    "command_name",
    "encode",
    "encode_update_count",
    "parse_action",
    "parse_command",
    "parse_ingest",
    "refuse_action",
    "refuse_command",
]
