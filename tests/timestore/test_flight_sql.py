"""The ingest command of Flight SQL: what is taken, what is refused, and that hostile bytes do nothing else."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.flight_sql import any_command, field, ingest_command, table_options
from timestore.descriptor import EndRule, PutDescriptor, Target
from timestore.errors import InvalidInputError, TimestoreError
from timestore.flight_sql import (
    ACTIONS,
    CATALOG,
    SCHEMA,
    Statement,
    command_name,
    encode,
    encode_update_count,
    parse_command,
    parse_ingest,
    refuse_action,
    refuse_command,
)
from timestore.flight_sql.statements import Described, PinnedDataset


def _refused(command: bytes, headers: dict[str, str] | None = None) -> TimestoreError:
    with pytest.raises(InvalidInputError) as caught:
        parse_ingest(command, headers or {})
    return caught.value


@pytest.mark.parametrize(("options", "target"), [((2, 2), Target.EXISTING), ((1, 1), Target.NEW), ((1, 2), Target.ANY)])
def test_the_modes_of_adbc(options: tuple[int, int], target: Target) -> None:
    """append, create and create_append say which dataset they expect; the end of the stream is trusted."""
    assert parse_ingest(ingest_command("cpu", *options), {}) == PutDescriptor(
        dataset="cpu", target=target, end=EndRule.EOF
    )


def test_headers_apply() -> None:
    """Headers give an ingest what its command has no field for."""
    headers = {
        "x-idempotency-key": "a",
        "x-timestore-key": '{"region": "eu"}',
        "x-timestore-expected-rows": "7",
        "x-timestore-end": "eof",
    }
    parsed = parse_ingest(ingest_command("cpu", 1, 2), headers)
    assert parsed is not None
    assert (parsed.idempotency_key, parsed.expected_rows, parsed.key.as_dict()) == ("a", 7, {"region": "eu"})


def test_a_marker_cannot_be_asked_for() -> None:
    """Such a stream cannot send an end marker, so asking for one is refused at once and not at the end."""
    assert _refused(ingest_command("cpu", 1, 2), {"x-timestore-end": "marker"}).kind == "descriptor_invalid"


@pytest.mark.parametrize("options", [(1, 3), (2, 3), (0, 3)])
def test_replace_is_unsupported(options: tuple[int, int]) -> None:
    """Rows are only ever appended."""
    assert _refused(ingest_command("cpu", *options)).kind == "unsupported"


@pytest.mark.parametrize("options", [(0, 0), (0, 2), (1, 0), (2, 1), (9, 2), (1, 9)])
def test_other_options_are_invalid(options: tuple[int, int]) -> None:
    """What Flight SQL forbids, does not know, or could never succeed is refused, not guessed."""
    assert _refused(ingest_command("cpu", *options)).kind == "descriptor_invalid"


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (field(3, b"public"), "schema"),
        (field(4, b"other"), "catalog"),
        (b"\x28\x01", "temporary"),
        (field(6, b"\x00"), "transaction_id"),
        (field(1000, field(1, b"k") + field(2, b"v")), "option 'k'"),
        (field(7, b"new"), "does not know"),
        (field(1, b"\x18\x01"), "does not know"),
    ],
)
def test_what_only_databases_have_is_unsupported(extra: bytes, name: str) -> None:
    """Nothing of the command is ignored silently."""
    failure = _refused(ingest_command("cpu", 1, 2, extra))
    assert failure.kind == "unsupported"
    assert name in failure.message


@pytest.mark.parametrize("table", ["", "..", "a b", "ä", "x" * 129])
def test_a_table_is_named_like_a_dataset(table: str) -> None:
    """The table's name follows the rule for datasets."""
    assert _refused(ingest_command(table, 1, 2)).kind == "name_invalid"


@pytest.mark.parametrize(
    "value",
    [b"\xff", field(2, b"\xff\xff"), b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 5_000, field(2, b"x" * (1 << 20))],
    ids=lambda value: repr(value[:10]),
)
def test_bytes_that_are_no_command_are_invalid(value: bytes) -> None:
    """Bad protobuf, bad UTF-8, deep groups and megabytes are ``descriptor_invalid``."""
    assert _refused(any_command("CommandStatementIngest", value)).kind == "descriptor_invalid"


@pytest.mark.parametrize("body", [b"", b'{"v": 1, "dataset": "cpu"}', b'\n{"v": 1, "dataset": "cpu"}', b"\xff" * 9])
def test_other_bytes_are_not_flight_sql(body: bytes) -> None:
    """JSON, whatever it begins with, and noise are none of Flight SQL's commands."""
    assert command_name(body) is None
    assert parse_ingest(body, {}) is None
    refuse_command(body)


def test_a_foreign_any_is_not_flight_sql() -> None:
    """An ``Any`` of another package is left to the parser of JSON, which refuses it."""
    foreign = AnyMessage(type_url="type.googleapis.com/google.protobuf.Duration", value=b"").SerializeToString()
    assert parse_ingest(foreign, {}) is None


def test_options_stand_for_headers() -> None:
    """A client that can set no headers gives idempotency key, semantic key and row count as options of the command."""
    options = {"x-idempotency-key": b"a", "x-timestore-key": b'{"region": "eu"}', "x-timestore-expected-rows": b"7"}
    extra = b"".join(field(1000, field(1, name.encode()) + field(2, value)) for name, value in options.items())
    parsed = parse_ingest(ingest_command("cpu", 1, 2, extra), {"x-idempotency-key": "a"})
    assert parsed is not None
    assert (parsed.idempotency_key, parsed.expected_rows, parsed.key.as_dict()) == ("a", 7, {"region": "eu"})
    assert _refused(ingest_command("cpu", 1, 2, extra), {"x-idempotency-key": "b"}).kind == "descriptor_invalid"


def test_the_catalog_and_schema_that_metadata_names() -> None:
    """An ingest may name the one catalog and the one schema that there are."""
    extra = field(3, SCHEMA.encode()) + field(4, CATALOG.encode())
    assert parse_ingest(ingest_command("cpu", 1, 2, extra), {}) == parse_ingest(ingest_command("cpu", 1, 2), {})


def test_other_commands_are_refused_by_name() -> None:
    """A command that has no place says so by its name, and what to use instead."""
    with pytest.raises(InvalidInputError, match=r"CommandStatementUpdate.*adbc_ingest") as caught:
        refuse_command(any_command("CommandStatementUpdate", field(1, b"DROP TABLE cpu")))
    assert (caught.value.kind, caught.value.details["command"]) == ("unsupported", "CommandStatementUpdate")


def test_absent_and_empty_differ() -> None:
    """A filter that was left out is not the empty filter: the empty catalog has nothing."""
    absent = parse_command(any_command("CommandGetTables", b""))
    empty = parse_command(any_command("CommandGetTables", field(1, b"") + field(4, b"TABLE") + b"\x28\x01"))
    assert absent is not None
    assert empty is not None
    assert (absent.optional("catalog"), empty.optional("catalog")) == (None, "")
    assert (list(empty.fields.table_types), empty.fields.include_schema) == (["TABLE"], True)


def test_messages_are_encoded_as_the_specification_says() -> None:
    """A ticket travels in an Any, a handle in a bare message, both with the field numbers of FlightSql.proto."""
    assert encode("TicketStatementQuery", wrapped=True, statement_handle=b"h") == any_command(
        "TicketStatementQuery", field(1, b"h")
    )
    assert encode("DoPutPreparedStatementResult", prepared_statement_handle=b"h") == field(1, b"h")
    options = {"catalog": {"string_value": "timestore"}}
    assert encode("GetSessionOptionsResult", session_options=options) == field(
        1, field(1, b"catalog") + field(2, field(1, b"timestore"))
    )


STATEMENT = Statement(
    query="SELECT ?",
    parameters=b"\x00\xff",
    described=Described(schema=b"\x01", shapes={"cpu": "a/1/0"}),
    pinned={"cpu": PinnedDataset(incarnation=UUID(int=7), version=3)},
    timeout_s=5.0,
)


@pytest.mark.parametrize("statement", [STATEMENT, Statement(query="SELECT 'ä'"), replace(STATEMENT, pinned={})])
def test_a_handle_says_all_that_a_statement_is(statement: Statement) -> None:
    """Any server makes of a handle what the one that gave it out made: it holds the whole statement."""
    assert Statement.parse(statement.to_bytes()) == statement


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"v":1}',
        b'{"v":2,"query":"x"}',
        b'{"v":1,"query":"x","other":1}',
        b'{"v":1,"query":"x","parameters":"%"}',
        b'{"v":1,"query":"x","pinned":{"cpu":"1"}}',
        b'{"v":1,"query":"x","pinned":{"cpu":"00000000-0000-0000-0000-000000000007/-1"}}',
        b'{"v":1,"query":"x","timeout_s":-1}',
    ],
)
def test_other_handles_are_refused(body: bytes) -> None:
    """What no server gave out is the caller's mistake."""
    with pytest.raises(InvalidInputError):
        Statement.parse(body)


def test_a_handle_is_bounded() -> None:
    """A statement that would not fit into a handle is refused with the limit, before it is handed out."""
    with pytest.raises(InvalidInputError, match="at most 786432 are allowed") as caught:
        Statement(query="x", parameters=b"x" * 700_000).to_bytes()
    assert caught.value.kind == "query_too_expensive"


def test_actions_are_refused_by_name() -> None:
    """The actions of Flight SQL are known to be unsupported; other names are not its business."""
    for name in ACTIONS:
        with pytest.raises(InvalidInputError, match=name):
            refuse_action(name)
    refuse_action("health")


@pytest.mark.parametrize(
    ("rows", "encoded"), [(0, b""), (1, b"\x08\x01"), (300, b"\x08\xac\x02"), (2**40, b"\x08" + b"\x80" * 5 + b"\x20")]
)
def test_the_update_count_is_a_varint(rows: int, encoded: bytes) -> None:
    """The answer is ``DoPutUpdateResult``: field 1, the rows as a varint."""
    assert encode_update_count(rows) == encoded


@settings(deadline=None)
@given(
    value=st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda name, one, two, extra: field(2, name) + table_options(one, two) + extra,
            st.binary(max_size=8) | st.just(b"cpu"),
            st.integers(0, 4),
            st.integers(0, 4),
            st.binary(max_size=20),
        ),
    ),
    name=st.sampled_from(["CommandStatementIngest", "CommandStatementQuery", ""]) | st.text(max_size=5),
    cut=st.integers(0, 5),
)
def test_any_bytes_are_parsed_or_refused(value: bytes, name: str, cut: int) -> None:
    """Whatever comes as CMD, the outcome is a descriptor, None, or a refusal by kind."""
    command = any_command(name, value)
    command = command[: len(command) - cut]
    outcome: object
    try:
        outcome = parse_ingest(command, {})
        if outcome is None:
            refuse_command(command)
    except TimestoreError as exc:
        outcome = exc.kind
    assert isinstance(outcome, PutDescriptor | None) or outcome in ("descriptor_invalid", "name_invalid", "unsupported")
