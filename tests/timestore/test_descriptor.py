"""Descriptors of puts and reads, and tickets: what is taken, and that nothing else happens to hostile bytes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timestore.datasets import Bounds, CreateOptions, Evolution, Order
from timestore.descriptor import (
    END_HEADER,
    EXPECTED_ROWS_HEADER,
    IDEMPOTENCY_HEADER,
    KEY_HEADER,
    EndRule,
    Landing,
    PutDescriptor,
    parse_put_command,
    parse_put_path,
)
from timestore.errors import InvalidInputError, TimestoreError
from timestore.json_object import MAX_JSON_BYTES
from timestore.names import PartitionKey
from timestore.reading import AsOf, PartitionPosition, ReadDescriptor, Selection, Ticket
from timestore.windows import WindowLength
from timestore.wire_errors import encode_status

INCARNATION = UUID("12345678-1234-5678-1234-567812345678")

# --- what is made of valid values -----------------------------------------------------------------------------------

UNICODE = st.characters(codec="utf-8")  # no lone surrogates
TEXTS = st.text(UNICODE, max_size=6)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,5}", fullmatch=True)
KEYS = st.dictionaries(NAMES.map(str.lower), st.sampled_from(["eu", "a/b", "..", "ä", "1"]), max_size=3).map(
    PartitionKey.parse
)
MOMENTS = st.datetimes(timezones=st.just(UTC))
COUNTS = st.integers(0, 2**63 - 1)
BOUNDS = st.builds(
    Bounds, min=st.none() | MOMENTS, max=st.none() | MOMENTS, future_tolerance_s=st.none() | st.floats(0, 1e15)
).filter(lambda bounds: bounds != Bounds() and (not bounds.min or not bounds.max or bounds.min < bounds.max))
CREATES = st.builds(
    CreateOptions,
    timestamp_column=st.none() | TEXTS,
    window=st.none() | st.sampled_from(["15m", "1d", "month"]).map(WindowLength.parse),
    order=st.none() | st.sampled_from(Order),
    evolution=st.none() | st.sampled_from(Evolution),
    bounds=st.none() | BOUNDS,
)
PUTS = st.builds(
    PutDescriptor,
    dataset=NAMES,
    key=KEYS,
    idempotency_key=st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=9),
    end=st.sampled_from(EndRule),
    expected_rows=st.none() | COUNTS,
    fingerprint=st.none() | TEXTS,
    landing=st.sampled_from(Landing),
    create=st.none() | CREATES,
)
SELECTIONS = st.builds(
    Selection,
    key=KEYS,
    columns=st.none() | st.lists(TEXTS, min_size=1, max_size=3, unique=True).map(tuple),
    start=st.none() | MOMENTS,
    end=st.none() | MOMENTS,
    with_key=st.booleans(),
)
AS_OFS = st.one_of(st.just(AsOf()), st.builds(AsOf, version=COUNTS), st.builds(AsOf, moment=MOMENTS))
READS = st.builds(ReadDescriptor, dataset=NAMES, selection=SELECTIONS, as_of=AS_OFS)
POSITIONS = st.none() | st.builds(PartitionPosition, window_start=MOMENTS, key=TEXTS)
TICKETS = st.builds(
    Ticket,
    dataset=NAMES,
    incarnation=st.uuids(),
    version=COUNTS,
    selection=SELECTIONS,
    first=POSITIONS,
    last=POSITIONS,
)


@settings(deadline=None)
@given(put=PUTS)
def test_a_put_descriptor_survives_its_command(put: PutDescriptor) -> None:
    """What a client encodes is what the server parses, field by field."""
    assert parse_put_command(put.to_command(), {}) == put


@settings(deadline=None)
@given(read=READS)
def test_a_read_descriptor_survives_its_command(read: ReadDescriptor) -> None:
    """What a reader asks for is what the server understands."""
    assert ReadDescriptor.parse_command(read.to_command()) == read


@settings(deadline=None)
@given(ticket=TICKETS)
def test_a_ticket_survives_its_bytes(ticket: Ticket) -> None:
    """A ticket that comes back is the one that was handed out."""
    assert Ticket.parse(ticket.to_bytes()) == ticket


# --- the two spellings ----------------------------------------------------------------------------------------------


def _command(**fields: object) -> bytes:
    return json.dumps({"v": 1, "dataset": "cpu"} | fields).encode()


def _refused(call: Callable[[], object], kind: str = "descriptor_invalid") -> TimestoreError:
    with pytest.raises(InvalidInputError) as caught:
        call()
    assert caught.value.kind == kind
    assert len(encode_status(caught.value)) <= 3_000  # much more than that, gRPC does not carry
    return caught.value


def test_the_two_spellings_say_the_same() -> None:
    """PATH with headers and JSON in CMD give equal descriptors."""
    command = _command(key={"site": "12", "region": "eu"}, idempotency_key="k-1", expected_rows=3, end="eof")
    headers = {IDEMPOTENCY_HEADER: "k-1", EXPECTED_ROWS_HEADER: "3", END_HEADER: "eof", "x-other": "ignored"}
    by_path = parse_put_path([b"cpu", b"region=eu", b"site=12"], headers)
    assert by_path == parse_put_command(command, {})
    assert by_path.key.as_dict() == {"region": "eu", "site": "12"}


def test_only_version_and_dataset_are_required() -> None:
    """Everything else has a default: no key, at-least-once, an end marker, automatic landing."""
    assert parse_put_command(b'{"v":1,"dataset":"cpu"}', {}) == PutDescriptor(dataset="cpu")
    assert ReadDescriptor.parse_command(b'{"v":1,"dataset":"cpu"}') == ReadDescriptor(dataset="cpu")


def test_a_path_value_may_have_equals_signs() -> None:
    """Only the first ``=`` of a path part separates; the rest is the value's."""
    assert parse_put_path([b"cpu", b"expr=a=b"], {}).key.as_dict() == {"expr": "a=b"}
    assert ReadDescriptor.parse_path([b"cpu", b"expr=a=b"]).selection.key.as_dict() == {"expr": "a=b"}


@pytest.mark.parametrize("path", [[], [b"cpu", b"region"], [b"cpu", b"a=1", b"a=2"], [b"\xff"], [b"cpu", b"a=\xff"]])
def test_other_paths_are_refused(path: list[bytes]) -> None:
    """Nothing, no ``=``, a name twice, not UTF-8: all are ``descriptor_invalid``."""
    _refused(lambda: parse_put_path(path, {}))
    _refused(lambda: ReadDescriptor.parse_path(path))


@pytest.mark.parametrize("path", [[b""], [b".."], [b"cpu", b"="], [b"cpu", b"a="], [b"cpu", b"a=1", b"A=2"]])
def test_names_in_a_path_are_checked(path: list[bytes]) -> None:
    """Names and values in a path follow the same rules as in JSON."""
    _refused(lambda: parse_put_path(path, {}), "name_invalid")
    _refused(lambda: ReadDescriptor.parse_path(path), "name_invalid")


@pytest.mark.parametrize(
    ("body", "header", "same", "other"),
    [
        ({"idempotency_key": "k"}, IDEMPOTENCY_HEADER, "k", "j"),
        ({"expected_rows": 3}, EXPECTED_ROWS_HEADER, "3", "4"),
        ({"expected_rows": 0}, EXPECTED_ROWS_HEADER, "0", "1"),
        ({"end": "eof"}, END_HEADER, "eof", "marker"),
        ({"end": "marker"}, END_HEADER, "marker", "eof"),
        ({"key": {"a": "1", "b": "2"}}, KEY_HEADER, '{"b": "2", "a": "1"}', '{"a": "1"}'),
    ],
)
def test_a_header_must_agree_with_the_body(body: dict[str, object], header: str, same: str, other: str) -> None:
    """A header that says the same is fine, or alone; one that says something else is refused."""
    both = parse_put_command(_command(**body), {header: same})
    assert both == parse_put_command(_command(**body), {}) == parse_put_command(_command(), {header: same})
    _refused(lambda: parse_put_command(_command(**body), {header: other}))


@pytest.mark.parametrize(
    ("header", "text", "kind"),
    [
        (EXPECTED_ROWS_HEADER, "", "descriptor_invalid"),
        (EXPECTED_ROWS_HEADER, "-1", "descriptor_invalid"),
        (EXPECTED_ROWS_HEADER, "\u0663", "descriptor_invalid"),
        (EXPECTED_ROWS_HEADER, "9" * 19, "descriptor_invalid"),
        (END_HEADER, "EOF", "descriptor_invalid"),
        (KEY_HEADER, "region=eu", "descriptor_invalid"),
        (KEY_HEADER, '{"region": 1}', "descriptor_invalid"),
        (KEY_HEADER, '{"..": "1"}', "name_invalid"),
        (IDEMPOTENCY_HEADER, "", "name_invalid"),
        (IDEMPOTENCY_HEADER, "\u00e4", "name_invalid"),
    ],
)
def test_headers_are_checked_like_the_body(header: str, text: str, kind: str) -> None:
    """What the JSON could not say, a header cannot say either."""
    _refused(lambda: parse_put_path([b"cpu"], {header: text}), kind)


# --- refusals -------------------------------------------------------------------------------------------------------

WRONG_FIELDS: list[dict[str, object]] = [
    {"v": 2},
    {"v": None},
    {"v": True},
    {"v": 1.0},
    {"v": "1"},
    {"dataset": None},
    {"dataset": 3},
    {"surprise": 1},
    {"Key": {}},
    {"key": []},
    {"key": {"a": 1}},
    {"key": {"a": None}},
]
WRONG_PUT_FIELDS: list[dict[str, object]] = [
    {"idempotency_key": 3},
    {"end": "maybe"},
    {"end": True},
    {"expected_rows": -1},
    {"expected_rows": 1.0},
    {"expected_rows": True},
    {"expected_rows": 2**63},
    {"expected_rows": "3"},
    {"fingerprint": 1},
    {"landing": "disk"},
    {"create": []},
    {"create": {"unknown": 1}},
    {"create": {"order": ""}},
    {"create": {"evolution": "all"}},
    {"create": {"window": "5h"}},
    {"create": {"window": 3}},
    {"create": {"min": "yesterday"}},
    {"create": {"future_tolerance_s": -1}},
    {"create": {"future_tolerance_s": "1"}},
    {"create": {"future_tolerance_s": True}},
    {"create": {"future_tolerance_s": 10**400}},
]
WRONG_READ_FIELDS: list[dict[str, object]] = [
    {"columns": "a"},
    {"columns": [1]},
    {"columns": []},
    {"from": "noon"},
    {"to": 3},
    {"version": -1},
    {"as_of": 3},
    {"version": 1, "as_of": "2026-01-01T00:00:00Z"},
    {"with_key": 1},
]


@pytest.mark.parametrize("fields", WRONG_FIELDS + WRONG_PUT_FIELDS, ids=json.dumps)
def test_a_put_with_a_wrong_field_is_refused(fields: dict[str, object]) -> None:
    """A field that is unknown, of another type or out of range is ``descriptor_invalid``; nothing is guessed."""
    _refused(lambda: parse_put_command(_command(**fields), {}))


@pytest.mark.parametrize("fields", WRONG_FIELDS + WRONG_READ_FIELDS, ids=json.dumps)
def test_a_read_with_a_wrong_field_is_refused(fields: dict[str, object]) -> None:
    """The descriptor of a read is as strict as that of a put."""
    _refused(lambda: ReadDescriptor.parse_command(_command(**fields)))


@pytest.mark.parametrize(
    "fields",
    [
        {"incarnation": None},
        {"incarnation": "x"},
        {"incarnation": 3},
        {"version": -1},
        {"version": None},
        {"first": "x"},
        {"first": []},
        {"first": ["2026-01-01T00:00:00Z"]},
        {"first": ["x", "{}"]},
        {"last": ["2026-01-01T00:00:00Z", "{}", "{}"]},
        {"path": "/etc/passwd"},
    ],
    ids=json.dumps,
)
def test_a_wrong_ticket_is_refused(fields: dict[str, object]) -> None:
    """A ticket names everything that resolves it, and nothing else."""
    good = {"incarnation": str(INCARNATION), "version": 1}
    assert Ticket.parse(_command(**good)).version == 1
    _refused(lambda: Ticket.parse(_command(**(good | fields))))


BAD_BODIES = [
    b"",
    b"null",
    b"[]",
    b'"cpu"',
    b"{",
    b'{"v":1,"dataset":"cpu","dataset":"mem"}',
    b'{"v":1,"dataset":"cpu","key":{"a":"1","a":"2"}}',
    b'{"v":1,"dataset":"cpu","expected_rows":NaN}',
    b'{"v":1,"dataset":"cpu","expected_rows":Infinity}',
    b'{"v":1,"dataset":"cpu"}{}',
    b"\xff",
    b'\xef\xbb\xbf{"v":1,"dataset":"cpu"}',
    b'{"v":1,"dataset":"cpu"}'.decode().encode("utf-16"),
    b"[" * 100_000,
    b'{"v":' + b"1" * 10_000 + b"}",
    b" " * (MAX_JSON_BYTES + 1),
]


@pytest.mark.parametrize(
    "parse", [lambda body: parse_put_command(body, {}), ReadDescriptor.parse_command, Ticket.parse]
)
@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda b: b[:40])
def test_a_body_that_is_not_one_strict_object_is_refused(parse: Callable[[bytes], object], body: bytes) -> None:
    """Not JSON, not UTF-8, not an object, a field twice, too deep, too long: all are ``descriptor_invalid``."""
    _refused(lambda: parse(body))


@pytest.mark.parametrize("name", ["..", "", "a b", "x" * 100_000])
def test_a_wrong_dataset_name_is_refused_as_a_name(name: str) -> None:
    """A dataset's name that is not allowed is ``name_invalid``, in puts and reads alike."""
    _refused(lambda: parse_put_command(_command(dataset=name), {}), "name_invalid")
    _refused(lambda: ReadDescriptor.parse_command(_command(dataset=name)), "name_invalid")


@pytest.mark.parametrize(
    "fields",
    [
        {"x" * 100_000: 1},
        {f"f{number}": 1 for number in range(10_000)},
        {"landing": "x" * 100_000},
        {"create": {"order": "x" * 100_000}},
        {"create": {"x" * 100_000: 1}},
        {"expected_rows": -(10**4_000)},
    ],
    ids=lambda fields: next(iter(fields))[:20],
)
def test_a_refusal_stays_short(fields: dict[str, object]) -> None:
    """However long the wrong field is, the refusal fits into what gRPC carries."""
    _refused(lambda: parse_put_command(_command(**fields), {}))


@pytest.mark.parametrize(
    "parse",
    [
        lambda text: parse_put_command(_command(fingerprint=text), {}).to_command(),
        lambda text: parse_put_command(_command(create={"timestamp_column": text}), {}).to_command(),
        lambda text: ReadDescriptor.parse_command(_command(columns=[text])).to_command(),
        lambda text: Ticket.parse(
            _command(incarnation=str(INCARNATION), version=1, first=["2026-01-01T00:00:00Z", text])
        ).to_bytes(),
    ],
    ids=["fingerprint", "timestamp_column", "columns", "position"],
)
def test_a_text_that_is_not_unicode_is_refused(parse: Callable[[str], object]) -> None:
    r"""JSON can spell a lone surrogate (``"\ud800"``), which no name and no answer can: it is refused at the door."""
    _refused(lambda: parse("\ud800"))


# --- hostile bytes --------------------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("2026-01-01T00:00:00Z"),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=5), child, max_size=3),
    max_leaves=5,
)
FIELDS = ["v", "dataset", "key", "idempotency_key", "end", "expected_rows", "fingerprint", "landing", "create"]
FIELDS += ["columns", "from", "to", "version", "as_of", "with_key", "incarnation", "first", "last", "window", "min"]
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), JSON_VALUES, max_size=4)
NESTED = st.builds(lambda outer, inner: outer | {"create": inner}, OBJECTS, OBJECTS)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    (OBJECTS | NESTED).map(lambda fields: _command(**fields)),
    OBJECTS.map(lambda fields: _command(**({"incarnation": str(INCARNATION), "version": 1} | fields))),
)
HEADERS = st.dictionaries(
    st.sampled_from([IDEMPOTENCY_HEADER, EXPECTED_ROWS_HEADER, END_HEADER, KEY_HEADER]),
    st.text(UNICODE, max_size=5) | st.sampled_from(["1", "eof", "{}"]),
    max_size=2,
)


def _parsed_or_refused(call: Callable[[], object], kind: type) -> None:
    outcome: object
    try:
        outcome = call()
    except TimestoreError as exc:
        outcome = exc.kind
    assert isinstance(outcome, kind) or outcome in ("descriptor_invalid", "name_invalid")


@settings(deadline=None)
@given(body=BODIES, headers=HEADERS)
def test_any_put_command_is_parsed_or_refused(body: bytes, headers: dict[str, str]) -> None:
    """Whatever bytes come as CMD, with whatever headers, the outcome is a descriptor or a refusal by kind."""
    _parsed_or_refused(lambda: parse_put_command(body, headers), PutDescriptor)


@settings(deadline=None)
@given(path=st.lists(st.binary(max_size=9) | st.sampled_from([b"cpu", b"a=1"]), max_size=3), headers=HEADERS)
def test_any_put_path_is_parsed_or_refused(path: list[bytes], headers: dict[str, str]) -> None:
    """Whatever bytes come as PATH, the outcome is a descriptor or a refusal by kind."""
    _parsed_or_refused(lambda: parse_put_path(path, headers), PutDescriptor)
    _parsed_or_refused(lambda: ReadDescriptor.parse_path(path), ReadDescriptor)


@settings(deadline=None)
@given(body=BODIES)
def test_any_read_or_ticket_is_parsed_or_refused(body: bytes) -> None:
    """Whatever bytes come as the descriptor of a read or as a ticket, the outcome is a value or a refusal by kind."""
    _parsed_or_refused(lambda: ReadDescriptor.parse_command(body), ReadDescriptor)
    _parsed_or_refused(lambda: Ticket.parse(body), Ticket)


def test_bounds_are_read_in_any_zone() -> None:
    """A bound with an offset is the same instant in UTC."""
    put = parse_put_command(_command(create={"min": "2026-01-01T01:00:00+01:00"}), {})
    assert put.create is not None
    assert put.create.bounds == Bounds(min=datetime(2026, 1, 1, tzinfo=UTC))
