"""Receipts: their JSON, and that a replay differs in one field alone."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from timestore.json_object import canonical_json
from timestore.receipt import Receipt, ReceiptFile

COUNTS = st.integers(0, 2**63 - 1)
FILES = st.builds(
    ReceiptFile, id=st.uuids().map(str), window=st.tuples(st.text(max_size=5), st.text()), rows=COUNTS, bytes=COUNTS
)
RECEIPTS = st.builds(
    Receipt,
    dataset=st.text(),
    incarnation=st.uuids().map(str),
    key=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    version=COUNTS,
    append_id=st.uuids().map(str),
    idempotency_key=st.text(),
    fingerprint=st.text(),
    rows=COUNTS,
    bytes=COUNTS,
    landing=st.sampled_from(["file", "inline", "arrow"]),
    files=st.lists(FILES, max_size=3).map(tuple),
    files_total=COUNTS,
    committed_at=st.datetimes(timezones=st.just(UTC)),
    timings_ms=st.dictionaries(st.text(max_size=5), st.floats(0, 1e9), max_size=3),
    replayed=st.booleans(),
)


@settings(deadline=None)
@given(receipt=RECEIPTS)
def test_a_receipt_survives_json(receipt: Receipt) -> None:
    """A receipt that was written as JSON and read again is the same receipt."""
    assert Receipt.from_json(json.loads(canonical_json(receipt.as_json()))) == receipt


@settings(deadline=None)
@given(receipt=RECEIPTS)
def test_a_replay_differs_in_replayed_alone(receipt: Receipt) -> None:
    """The receipt of a retry is the first one, but for ``replayed``."""
    first = replace(receipt, replayed=False)
    assert first.as_replay() == replace(first, replayed=True)
    assert first.as_replay().as_json() | {"replayed": False} == first.as_json()


def test_the_json_has_the_fields_of_the_protocol() -> None:
    """The answer's field names are PROTOCOL 1's, and ``committed_at`` always has microseconds."""
    receipt = Receipt(
        dataset="cpu",
        incarnation="i",
        key={"region": "eu"},
        version=3,
        append_id="a",
        idempotency_key="k",
        fingerprint="f1:0",
        rows=2,
        bytes=16,
        landing="file",
        files=(ReceiptFile(id="f", window=("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), rows=2, bytes=9),),
        files_total=1,
        committed_at=datetime(2026, 1, 1, tzinfo=UTC),
        timings_ms={"land": 0.5},
        replayed=False,
    )
    body = receipt.as_json()
    assert set(body) == {"type", "v", *(field.name for field in fields(Receipt))}
    assert (body["type"], body["v"]) == ("receipt", 1)
    assert body["committed_at"] == "2026-01-01T00:00:00.000000Z"
    window = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
    assert body["files"] == [{"id": "f", "window": window, "rows": 2, "bytes": 9}]
