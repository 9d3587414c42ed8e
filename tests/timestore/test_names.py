"""Names that clients give: what is allowed, and that every refusal says so."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timestore.errors import InvalidInputError
from timestore.names import (
    MAX_KEY_PARTS,
    NO_KEY,
    PartitionKey,
    parse_dataset_name,
    parse_idempotency_key,
)
from timestore.wire_errors import encode_status

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BAD_NAMES = ["", "1cpu", "_cpu", "-cpu", ".", "..", "a/b", "a.b", "a b", "a\x00", "a\n", "ä", "a" * 129, "cpu\u0000"]
BAD_NAMES += ["\ud800", "\uff43pu", "a=b", "a%2e", "a\\b", "~a"]


def _refused(call, *arguments) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call(*arguments)
    assert caught.value.kind == "name_invalid"
    assert len(encode_status(caught.value)) <= 3_000  # what gRPC surely carries
    return caught.value


@settings(deadline=None)
@given(name=st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,127}", fullmatch=True))
def test_a_name_of_the_protocol_is_taken_as_it_is(name: str) -> None:
    """A letter, then up to 127 letters, digits, underscores and hyphens: for datasets and key parts alike."""
    assert parse_dataset_name(name) == name
    assert PartitionKey.parse({name: "x"}).names == (name,)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_other_names_are_refused(name: str) -> None:
    """Nothing that could leave the root, look like another name or break a path is a name."""
    _refused(parse_dataset_name, name)
    _refused(PartitionKey.parse, {name: "x"})


@settings(deadline=None)
@given(name=st.text(max_size=6))
def test_any_text_is_a_name_or_refused(name: str) -> None:
    """Every text is taken if it is of the protocol's form, and otherwise refused as ``name_invalid``."""
    allowed = bool(name) and name[0] in LETTERS and set(name) <= set(LETTERS + "0123456789_-")
    if allowed:
        assert parse_dataset_name(name) == name
    else:
        _refused(parse_dataset_name, name)


@settings(deadline=None)
@given(value=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30))
def test_any_normalized_text_is_a_key_value(value: str) -> None:
    """Any Unicode in NFC without control characters is a value, whatever it means to a file system."""
    value = unicodedata.normalize("NFC", value)
    assert PartitionKey.parse({"k": value}).as_dict() == {"k": value}


@pytest.mark.parametrize("value", [".", "..", "/", "../../etc/passwd", "a/b", "a\\b", "%2e%2e", "a b", "~", "=", " "])
def test_values_may_look_like_paths(value: str) -> None:
    """A value is any text: paths encode it, so it need not be a file name."""
    assert PartitionKey.parse({"k": value}).as_dict() == {"k": value}


@pytest.mark.parametrize(
    "value", ["", "\x00", "a\x00b", "a\nb", "\x1f", "\x7f", "\x85", "\ud800", "e\u0301", "\u212b", "x" * 257]
)
def test_other_values_are_refused(value: str) -> None:
    """Empty, control characters, lone surrogates, not NFC, too long: all are ``name_invalid``."""
    _refused(PartitionKey.parse, {"k": value})


def test_a_value_is_measured_in_bytes() -> None:
    """256 bytes of UTF-8 are allowed, one more is not, however few characters they are."""
    for longest in ("x" * 256, "é" * 128):
        assert PartitionKey.parse({"k": longest}).as_dict() == {"k": longest}
    _refused(PartitionKey.parse, {"k": "é" * 128 + "x"})
    _refused(PartitionKey.parse, {"k": "\U0001f600" * 65})


def test_a_key_is_a_set_sorted_by_name() -> None:
    """Two keys are equal if they have the same parts, in whatever order they were given."""
    key = PartitionKey.parse({"site": "12", "region": "eu"})
    assert key == PartitionKey.parse({"region": "eu", "site": "12"})
    assert key.parts == (("region", "eu"), ("site", "12"))
    assert str(key) == "region=eu/site=12"
    assert PartitionKey.parse({}) == NO_KEY
    assert not NO_KEY.names


def test_key_names_are_unique_ignoring_case() -> None:
    """``Region`` beside ``region`` is refused: not every file system tells them apart."""
    _refused(PartitionKey.parse, {"Region": "eu", "region": "us"})


def test_a_key_has_a_bounded_number_of_parts() -> None:
    """The number of parts is limited, and the refusal says how many came."""
    parts = {f"k{number}": "v" for number in range(MAX_KEY_PARTS)}
    assert len(PartitionKey.parse(parts).names) == MAX_KEY_PARTS
    assert str(MAX_KEY_PARTS + 1) in str(_refused(PartitionKey.parse, parts | {"more": "v"}))


@pytest.mark.parametrize("names", [["x" * 100_000], ["x" * 100_000, "X" * 100_000], ["\ud800", "\ud801"]])
def test_a_refusal_of_long_names_stays_short(names: list[str]) -> None:
    """The message of a refusal fits into what gRPC carries, however long the names are."""
    _refused(PartitionKey.parse, dict.fromkeys(names, "v"))


@settings(deadline=None)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=256))
def test_an_idempotency_key_is_printable_ascii(text: str) -> None:
    """1 to 256 bytes of printable ASCII are taken as they are."""
    assert parse_idempotency_key(text) == text


@pytest.mark.parametrize("text", ["", "x" * 257, "a\n", "\x00", "\x7f", "ä", "\ud800", "\u2028", "a\tb"])
def test_other_idempotency_keys_are_refused(text: str) -> None:
    """What a log line or a header could not carry is ``name_invalid``."""
    _refused(parse_idempotency_key, text)


@settings(deadline=None)
@given(first=st.text(max_size=300))
def test_any_text_is_an_idempotency_key_or_refused(first: str) -> None:
    """Every text is taken or refused as ``name_invalid``, by the rule alone."""
    if 1 <= len(first) <= 256 and first.isascii() and first.isprintable():
        assert parse_idempotency_key(first) == first
    else:
        _refused(parse_idempotency_key, first)
