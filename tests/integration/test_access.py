"""Who may call what: every RPC and every action, by every kind of caller, over TLS."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import timestore
from access.grants import Permission
from catalog.connections import Connections
from catalog.tokens import Tokens
from tests.fixtures.actions import BODIES
from tests.fixtures.data import cpu_table
from tests.fixtures.raw_put import typed
from tests.fixtures.secured import Secured
from tests.fixtures.server import StartService
from tests.fixtures.sql_calls import SQL_CALLS, Call, read_all
from timestore.errors import AccessDeniedError, TimestoreError
from timestore.flight_sql import ACTIONS, encode
from timestore.flight_sql.messages import _MESSAGES
from timestore.reading import Ticket

NAMES = ("cpu", "secret", "absent")  # the last one is not there


def _put(client: flight.FlightClient, options: flight.FlightCallOptions, dataset: str) -> None:
    command = json.dumps({"v": 1, "dataset": dataset, "end": "eof"}).encode()
    writer, answers = client.do_put(flight.FlightDescriptor.for_command(command), cpu_table(1).schema, options)
    answers.read()
    writer.close()


def _get(client: flight.FlightClient, options: flight.FlightCallOptions, dataset: str) -> None:
    incarnation = "00000000-0000-4000-8000-000000000000"
    ticket = json.dumps({"v": 1, "dataset": dataset, "incarnation": incarnation, "version": 1}).encode()
    client.do_get(flight.Ticket(ticket), options).read_all()


def _exchange(client: flight.FlightClient, options: flight.FlightCallOptions, dataset: str) -> None:
    writer, reader = client.do_exchange(_read(dataset), options)
    writer.done_writing()
    reader.read_all()


def _read(dataset: str) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(json.dumps({"v": 1, "dataset": dataset}).encode())


def _action(name: str) -> Call:
    def call(client: flight.FlightClient, options: flight.FlightCallOptions, dataset: str) -> list[flight.Result]:
        body = json.dumps({"v": 1, **_body(name, dataset)}).encode()
        return list(client.do_action(flight.Action(name, body), options))

    return call


def _body(name: str, dataset: str) -> dict[str, Any]:
    body = {field: dataset if field in {"dataset", "confirm"} else value for field, value in BODIES[name].items()}
    return body | ({"query": f"FROM {dataset}"} if name == "sql" else {})


CREATING = {
    ("create_dataset", Permission.CREATE),
    ("create_dataset", Permission.ADMIN),
    ("do_put", Permission.ADMIN),
    ("CommandStatementIngest", Permission.ADMIN),
}
PUTS = ("do_put", "CommandStatementIngest")

# By RPC: how it is called, and which of some permissions it needs; None if it is enough to be known.
RPCS: dict[str, tuple[Call, tuple[Permission, ...] | None]] = {
    "do_put": (_put, (Permission.APPEND,)),
    "do_get": (_get, (Permission.READ,)),
    "do_exchange": (_exchange, None),
    "do_action": (_action("health"), None),
    "get_flight_info": (lambda client, options, name: client.get_flight_info(_read(name), options), (Permission.READ,)),
    "get_schema": (
        lambda client, options, name: client.get_schema(_read(name), options),
        (Permission.READ, Permission.APPEND),
    ),
    "list_flights": (lambda client, options, _: list(client.list_flights(options=options)), None),
    "list_actions": (lambda client, options, _: list(client.list_actions(options)), None),
}


def _outcome(secured: Secured, call: Call, dataset: str, *authorization: str) -> TimestoreError | None:
    """What the server says to a call; None if it is content."""
    client, options = secured.flight(*authorization)
    with client:
        try:
            call(client, options, dataset)
        except flight.FlightError as exc:
            return typed(exc)
        except pa.ArrowException as exc:  # of get_schema, which has no more than a text
            kind, message = str(exc).split("[", 1)[1].split("] ", 1)
            return TimestoreError(kind, message)
    return None


def _calls(secured: Secured) -> Iterator[tuple[str, Call, tuple[Permission, ...] | None, bool]]:
    """Every RPC and every action of the server, Flight SQL's too, with what it needs, and whether of all datasets."""
    for rpc, (call, permissions) in (RPCS | SQL_CALLS).items():
        yield rpc, call, permissions, False
    for name, action in secured.service.actions.table.items():
        yield name, _action(name), action.needs.permissions or None, action.needs.everywhere


def test_the_tables_are_complete(secured: Secured) -> None:
    """These tests know every RPC that Flight has, every action that the server has, and all that Flight SQL asks."""
    assert set(RPCS) == {name for name in dir(flight.FlightServerBase) if name.startswith(("do_", "get_", "list_"))}
    assert set(BODIES) == set(secured.service.actions.table)
    assert set(SQL_CALLS) == {name for name in _MESSAGES if name.startswith(("Command", "Ticket"))} | ACTIONS


def test_the_reference_says_what_the_table_says(secured: Secured) -> None:
    """The page about access has each RPC and each action, and what of Flight SQL needs a permission, with those."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "access.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|(.*)\|$", page.partition("| call |")[2], re.M)
    documented = {call: (re.findall(r"`(\w+)`", needs), on.strip() == "`*`") for call, needs, on in rows}
    expected = {
        name: ([str(permission) for permission in permissions or ()], everywhere)
        for name, _, permissions, everywhere in _calls(secured)
        if name != "do_action" and (name in documented or name not in SQL_CALLS or permissions)
    }

    assert documented == expected


def test_callers_that_nobody_knows(secured: Secured) -> None:
    """Without a token, with a wrong, an expired or a revoked one, every RPC and action is refused, all alike."""
    expired = secured.token("admin:*", lifetime_s=-1)
    revoked = secured.token("admin:*")
    secured.revoke(revoked)
    good = secured.token("admin:*")
    strangers = {
        "nothing": [],
        "unknown": [f"Bearer tst_{'0' * 16}_{'A' * 43}"],
        "another secret": [f"Bearer {good[:21]}{'A' * 43}"],
        "no token": ["Bearer nonsense"],
        "another scheme": [f"Digest {good}"],
        "empty": [""],
        "expired": [f"Bearer {expired}"],
        "revoked": [f"Bearer {revoked}"],
        "two": [f"Bearer {good}", f"Bearer {revoked}"],
    }
    for who, authorization in strangers.items():
        for what, call, _, _ in _calls(secured):
            failure = _outcome(secured, call, "cpu", *authorization)
            assert failure is not None, (who, what)
            assert failure.kind == "unauthenticated", (who, what, failure)
            assert "token" in failure.message
            assert not any(token in failure.message for token in secured.made)


def test_grants_of_other_names(secured: Secured) -> None:
    """A token without a grant on a name is told the same about it whether or not there is such a dataset."""
    token = secured.token(*(f"{permission}:other_*" for permission in Permission))
    for what, call, permissions, _ in _calls(secured):
        failures = [_outcome(secured, call, name, f"Bearer {token}") for name in NAMES]
        if permissions is None:
            assert all(failure is None or failure.kind == "unsupported" for failure in failures), (what, failures)
            continue
        told = {
            (failure.kind, failure.message.replace(name, "NAME"), str(failure.details).replace(name, "NAME"))
            for failure, name in zip(failures, NAMES, strict=True)
            if failure is not None
        }
        assert [kind for kind, _, _ in told] == ["permission_denied"], (what, told)
        assert all(failures)


@pytest.mark.parametrize("permission", Permission)
def test_each_permission_allows_what_the_table_says(secured: Secured, permission: Permission) -> None:
    """Each permission alone lets through exactly the calls that the table says, on a name without a dataset too."""
    token = secured.token(f"{permission}:absent")
    for what, call, permissions, everywhere in _calls(secured):
        if permissions is None:
            continue
        failure = _outcome(secured, call, "absent", f"Bearer {token}")
        allowed = not everywhere and (permission is Permission.ADMIN or permission in permissions)
        if what in PUTS and permission is Permission.APPEND:
            assert "create:absent" in str(failure)  # see below
        elif (what, permission) in CREATING:
            assert failure is None, failure
            _drop(secured, "absent")
        else:
            assert isinstance(failure, TimestoreError), what
            assert (failure.kind == "permission_denied") is not allowed, (what, failure)


def test_admin_of_everything(secured: Secured) -> None:
    """What concerns the whole server needs admin:*, and no narrower grant will do."""
    everything, nearly = secured.token("admin:*"), secured.token("admin:c*", "read:*", "append:*", "create:*")
    for what, call, _, everywhere in _calls(secured):
        if everywhere:
            failure = _outcome(secured, call, "cpu", f"Bearer {everything}")
            assert failure is None or (what, failure.kind) == ("add_storage", "storage_exists")
            failure = _outcome(secured, call, "cpu", f"Bearer {nearly}")
            assert failure is not None, what
            assert failure.kind == "permission_denied", what


def test_append_alone_creates_nothing(secured: Secured) -> None:
    """A put that would create its dataset needs create as well as append; a put to an existing one only append."""
    with secured.client(secured.token("append:sensors_*")) as appends:
        with pytest.raises(AccessDeniedError, match="create:sensors_a") as caught:
            appends.append("sensors_a", cpu_table(1))
        assert caught.value.kind == "permission_denied"
        with secured.client(secured.token("create:sensors_*")) as creates:
            creates.create_dataset("sensors_a", cpu_table(1).schema)
            with pytest.raises(AccessDeniedError, match="append:sensors_a"):
                creates.append("sensors_a", cpu_table(1))
        assert appends.append("sensors_a", cpu_table(1)).rows == 1
        with pytest.raises(AccessDeniedError, match="read:sensors_a"):
            appends.read("sensors_a")
    with secured.client(secured.token("append,create:sensors_*")) as both:
        assert both.append("sensors_b", cpu_table(1)).rows == 1


def test_names_in_another_case(secured: Secured) -> None:
    """Grants ignore case as names do, so that another spelling gets nobody in, or out."""
    with secured.client(secured.token("read:CPU")) as client:
        assert client.read("cpu").num_rows >= 10
        assert client.sql("FROM Cpu").num_rows >= 10
        with pytest.raises(AccessDeniedError):
            client.sql("FROM Secret")


def test_listings_show_what_may_be_known(secured: Secured) -> None:
    """Listings have only datasets that the caller may read or append to, whatever page or prefix is asked for."""
    with secured.client(secured.token("read:c*", "append:absent_*")) as client:
        assert [item["dataset"] for item in client.datasets()] == ["cpu"]
    tables = encode("CommandGetTables", wrapped=True, include_schema=True)
    raw, options = secured.flight(f"Bearer {secured.token('read:c*', 'append:absent_*')}")
    with raw:
        assert read_all(raw, options, tables).column("table_name").to_pylist() == ["cpu"]
    raw, options = secured.flight(f"Bearer {secured.token('create:*')}")
    with raw:
        assert read_all(raw, options, tables).num_rows == 0
        assert list(raw.list_flights(options=options)) == []
        assert list(raw.list_flights(b'{"v": 1, "prefix": "sec"}', options)) == []


def test_an_underscore_stands_for_itself(secured: Secured) -> None:
    """In a glob only * has a meaning, also where the catalog compares."""
    with secured.client(secured.token("append:c_u")) as client:
        assert client.datasets() == []


def test_queries_see_what_may_be_read(secured: Secured) -> None:
    """SQL reads only what is granted; other names are as if they were not there, and so are tables that are not."""
    token = secured.token("read:cpu")
    with secured.client(token) as client:
        _query_what_is_hidden(client.sql)
        with pytest.raises(TimestoreError, match="query_invalid"):
            client.sql("FROM cpu", versions={"secret": 1})
    raw, options = secured.flight(f"Bearer {token}")
    with raw:
        _query_what_is_hidden(lambda query: _by_flight_sql(raw, options, query))


def test_queries_of_remote_files_see_the_same(start_remote: StartService, connections: Connections) -> None:
    """The same holds where files would have to be fetched, and queries are planned before that."""
    service = start_remote(require_auth=True)
    secured = Secured(service=service, tokens=Tokens(connections=connections), directory=Path())
    with timestore.connect(service.url, token=secured.token("admin:*")) as admin:
        admin.append("cpu", cpu_table(10))
        admin.append("secret", cpu_table(10))
    with timestore.connect(service.url, token=secured.token("read:cpu"), retries=False) as client:
        _query_what_is_hidden(client.sql)


def _by_flight_sql(raw: flight.FlightClient, options: flight.FlightCallOptions, query: str) -> pa.Table:
    try:
        info = raw.get_flight_info(
            flight.FlightDescriptor.for_command(encode("CommandStatementQuery", wrapped=True, query=query)), options
        )
        return raw.do_get(info.endpoints[0].ticket, options).read_all()
    except flight.FlightError as exc:
        raise typed(exc) from exc


def _query_what_is_hidden(ask: Callable[[str], pa.Table]) -> None:
    assert ask("WITH secret AS (FROM cpu) FROM secret").num_rows >= 10  # a name of the query's own
    told = set()
    for name in ("secret", "absent"):
        for query in ("FROM {}", "SELECT * FROM cpu, {}", "SELECT (SELECT count(*) FROM {}) FROM cpu"):
            with pytest.raises(AccessDeniedError) as caught:
                ask(query.format(name))
            told.add((query, caught.value.kind, caught.value.message.replace(name, "NAME")))
    assert len(told) == 3


def test_a_ticket_gives_nobody_anything(secured: Secured) -> None:
    """A ticket of one caller is no use to another, under its own name or under one that may be read."""
    with secured.client(secured.token("read:secret")) as owner:
        info = owner._flight.get_flight_info(_read("secret"))
    ticket = Ticket.parse(info.endpoints[0].ticket.ticket)
    forged = json.loads(ticket.to_bytes()) | {"dataset": "cpu"}
    raw, options = secured.flight(f"Bearer {secured.token('read:cpu')}")
    with raw:
        for content, kind in (
            (ticket.to_bytes(), "permission_denied"),
            (json.dumps(forged).encode(), "version_expired"),
        ):
            with pytest.raises(flight.FlightError) as caught:
                raw.do_get(flight.Ticket(content), options).read_all()
            assert typed(caught.value).kind == kind


def test_the_audit_says_who_appended(secured: Secured) -> None:
    """Each append is there with its principal, newest first, page by page; one's own can be chosen."""
    feeder, other = secured.token("append,create:audited", name="feeder"), secured.token("append:audited", name="o")
    for number, token in enumerate([feeder, other, feeder]):
        with secured.client(token) as client:
            client.append("audited", cpu_table(number + 1), idempotency_key=f"k{number}")
    with secured.client(secured.token("admin:audited")) as admin:
        assert [(item["idempotency_key"], item["principal"], item["rows"]) for item in admin.audit("audited")] == [
            ("k2", "token:feeder", 3), ("k1", "token:o", 2), ("k0", "token:feeder", 1)
        ]  # fmt: skip
        assert [item["idempotency_key"] for item in admin.audit("audited", principal="token:o")] == ["k1"]
        page = next(admin._action("audit", {"dataset": "audited", "limit": 2}))
        rest = next(admin._action("audit", {"dataset": "audited", "cursor": page["next"]}))
        assert [item["idempotency_key"] for item in page["items"] + rest["items"]] == ["k2", "k1", "k0"]


def test_every_connection_has_the_token(secured: Secured) -> None:
    """The token goes with each call on any connection, also on those that a client opens later."""
    with secured.client(secured.token("append,create,read:many")) as client:
        client.append("many", cpu_table(1))
        appends = [timestore.Append(dataset="many", data=cpu_table(1, offset=n)) for n in range(1, 9)]
        results = client.append_many(appends)

        assert [result.receipt.rows for result in results if result.receipt] == [1] * 8
        assert client.read("many", parallel=4).num_rows == 9


def _drop(secured: Secured, name: str) -> None:
    with secured.client(secured.token(f"admin:{name}")) as client:
        client.drop_dataset(name, confirm=name)
