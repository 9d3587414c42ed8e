"""Arrow bodies by HTTP that no honest client sends, against a server process: it lives and says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pyarrow as pa
import pytest

from tests.fixtures.arrow_layouts import LAYOUTS
from tests.fixtures.data import START
from tests.fixtures.http_requests import ARROW, ARROW_FILE, Http, stream_of
from tests.fixtures.victim import Victim

REFUSALS = {"batch_invalid", "type_unsupported", "timestamp_out_of_bounds", "timestamp_null"}
FILLINGS = (b"\xff", b"\x80", b"\x7f", b"\x01", None)
STAMPS = pa.array([START] * 3, pa.timestamp("us", "UTC"))


def _broken(stream: bytes) -> Iterator[bytes]:
    """Yield a stream with the bodies of its messages replaced by nonsense: all of them, and one at a time."""
    random = np.random.default_rng(1)
    bodies = [body for each in pa.ipc.MessageReader.open_stream(stream) if (body := each.body.to_pybytes())]
    for chosen in (bodies, *([body] for body in bodies if len(bodies) > 1)):
        for fill in FILLINGS:
            broken = stream
            for body in chosen:
                broken = broken.replace(body, fill * len(body) if fill else random.bytes(len(body)))
            yield broken


def _wrong_offsets() -> bytes:
    """Rows with a map whose last offset is far behind its entries: asking for their size would follow it."""
    maps = pa.array([[("a", 1)], None, [("b", 2)]], pa.map_(pa.string(), pa.int64()))
    stream = stream_of(pa.table({"ts": STAMPS, "column": maps}))
    offsets = np.array([0, 1, 1, 2], np.int32).tobytes()
    assert stream.count(offsets) == 1
    return stream.replace(offsets, np.array([0, 1, 1, 1 << 30], np.int32).tobytes())


def _growing_dictionary() -> bytes:
    """Rows whose dictionary grows from batch to batch, which the reader joins before anybody else sees it."""
    sink = BytesIO()
    batches = [
        pa.record_batch({"ts": STAMPS, "column": pa.DictionaryArray.from_arrays([0, 1, 1], words)})
        for words in (["first", "second"], ["first", "second", "third-of-all", "fourth"])
    ]
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


STREAMS = {name: stream_of(pa.table({"ts": STAMPS, "column": column})) for name, column in LAYOUTS.items()} | {
    "dictionary that grows": _growing_dictionary()
}


@pytest.fixture(name="victim_arguments", scope="module")
def _victim_arguments() -> tuple[str, ...]:
    return ("--http-port", "0")


@pytest.fixture(name="door", scope="module")
def _door(victim: Victim) -> Http:
    return Http(victim.server.http_url)


@pytest.mark.parametrize("name", STREAMS)
def test_wrong_buffers(victim: Victim, door: Http, name: str) -> None:
    """Whatever the type, buffers of nonsense are refused before anything follows an offset in them."""
    with victim.unharmed():
        for body in _broken(STREAMS[name]):
            answer = door.append("hostile", body, ARROW, "?expected_rows=1000000")
            assert answer.json["kind"] in REFUSALS | {"row_count_mismatch"}, answer.body


@pytest.mark.parametrize("content_type", [ARROW, ARROW_FILE])
def test_offsets_that_lead_nowhere(victim: Victim, door: Http, content_type: str) -> None:
    """A map whose offsets end outside of its entries is refused, also where its key has been committed before."""
    good = stream_of(pa.table({"ts": STAMPS, "column": LAYOUTS["map"]}))
    with victim.unharmed(appends=1):
        assert door.append(f"maps-{len(content_type)}", good, ARROW, idempotency_key="a").status == 201
        for headers in ({}, {"idempotency_key": "a"}):
            answer = door.append(f"maps-{len(content_type)}", _wrong_offsets(), content_type, **headers)
            assert (answer.status, answer.json["kind"]) == (422, "batch_invalid"), answer.body
