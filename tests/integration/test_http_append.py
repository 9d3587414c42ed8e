"""Appending by HTTP: any form of the same rows is the same append, by either door; a cut body is none."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from decimal import Decimal
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import timestore
from tests.fixtures.http_requests import (
    ARROW,
    ARROW_FILE,
    CSV,
    JSON,
    NDJSON,
    PARQUET,
    Answer,
    Http,
    answer_on,
    chunk,
    stream_of,
)
from tests.fixtures.server import wait_until
from timestore.errors import TimestoreError

ROWS = [
    {"ts": f"2026-01-01T00:00:0{n}.25Z", "host": f"h{n}", "usage": n + 0.5, "n": 2**53 + n, "up": n % 2 == 0}
    for n in range(5)
]
TABLE = pa.Table.from_pylist(ROWS).set_column(
    0, "ts", pa.array([row["ts"] for row in ROWS]).cast(pa.timestamp("us", "UTC"))
)


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _file(write: Callable[[Any], Any]) -> bytes:
    sink = BytesIO()
    write(sink)
    return sink.getvalue()


def _arrow_file(sink: BytesIO) -> None:
    with pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)


FORMS: dict[str, tuple[bytes, str]] = {
    "ndjson": (_lines(ROWS), NDJSON),
    "json rows": (json.dumps(ROWS, indent=2).encode(), JSON),
    "json columns": (json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}, indent=1).encode(), JSON),
    "csv": (_file(lambda sink: pa_csv.write_csv(TABLE, sink)), CSV),
    "arrow stream": (stream_of(TABLE, rows_per_batch=2), ARROW),
    "arrow file": (_file(_arrow_file), ARROW_FILE),
    "parquet": (_file(lambda sink: pq.write_table(TABLE, sink, row_group_size=2)), PARQUET),
}
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": lambda body: bytes(pa.compress(body, "zstd", asbytes=True)),
}


def _pieces(body: bytes) -> list[bytes]:
    return [body[start : start + 7] for start in range(0, len(body), 7)]


@pytest.mark.parametrize("first", FORMS)
def test_any_form_creates_a_dataset(http: Http, flight: timestore.Client, dataset: str, first: str) -> None:
    """Five rows in any form make a dataset of the same types; all other forms of them, by both doors, are replays."""
    body, content_type = FORMS[first]
    created = http.append(dataset, body, content_type, idempotency_key="a")
    assert (created.status, created.json["rows"], created.json["replayed"]) == (201, 5, False)
    assert flight.read(dataset).equals(TABLE)

    for body, content_type in FORMS.values():
        again = http.append(dataset, body, content_type, idempotency_key="a")
        assert (again.status, again.json) == (200, created.json | {"replayed": True})
    assert flight.append(dataset, TABLE, idempotency_key="a").replayed
    assert flight.describe(dataset)["version"] == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_form_repeats_a_put_by_flight(
    http: Http, flight: timestore.Client, dataset: str, form: str, encoding: str
) -> None:
    """What was put by Flight and comes again by HTTP, compressed or not, in pieces or whole, adds nothing."""
    receipt = flight.append(dataset, TABLE, idempotency_key="a", key={"site": "x"})
    body, content_type = FORMS[form]
    encoded = ENCODINGS[encoding](body)
    for sent in (encoded, _pieces(encoded)):
        answer = http.append(
            dataset, sent, content_type, "?key=site%3Dx", idempotency_key="a", content_encoding=encoding
        )
        assert (answer.status, answer.json["append_id"]) == (200, receipt.append_id), answer.body

    other = http.append(dataset, FORMS["ndjson"][0] * 2, NDJSON, "?key=site=x", idempotency_key="a")
    assert (other.status, other.json["kind"]) == (409, "idempotency_conflict")
    assert flight.describe(dataset)["rows"] == 5


def test_a_repetition_after_the_schema_moved_on(http: Http, flight: timestore.Client, dataset: str) -> None:
    """Rows without types get those that they had at first, however the dataset's schema was widened since."""
    small = TABLE.set_column(3, "n", pa.array(range(5), pa.int32()))
    flight.append(dataset, small.slice(0, 1), idempotency_key="first")
    rows = [row | {"n": place} for place, row in enumerate(ROWS)]
    bodies = [(_lines(rows), NDJSON), (_lines(rows * 1)[:-1], NDJSON), (json.dumps(rows).encode(), JSON)]
    assert http.append(dataset, *bodies[0], idempotency_key="a").status == 201

    wider = TABLE.append_column("more", pa.array(["x"] * 5))
    flight.append(dataset, wider, idempotency_key="wider")
    assert [column["type"] for column in flight.describe(dataset)["columns"]][3:] == ["int64", "bool", "string"]

    for body, content_type in bodies:
        answer = http.append(dataset, body, content_type, idempotency_key="a")
        assert (answer.status, answer.json["rows"]) == (200, 5), answer.body
    assert http.append(dataset, _lines([ROWS[0] | {"more": "y"}]), NDJSON, idempotency_key="b").status == 201


def test_a_key_of_several_parts(http: Http, flight: timestore.Client, dataset: str) -> None:
    """Each key= is one part of the semantic key; what is no name=value, or doubled, is refused."""
    query = f"?key=region=eu&key={quote('site=a=b &é')}"
    answer = http.append(dataset, FORMS["ndjson"][0], NDJSON, query)
    assert answer.json["key"] == {"region": "eu", "site": "a=b &é"}
    assert flight.read(dataset, key={"site": "a=b &é"}).num_rows == 5

    for wrong in ("?key=region", "?key=region=eu&key=region=us", "?key=1=2", "?key=region=eu"):
        assert http.append(dataset, FORMS["ndjson"][0], NDJSON, wrong).status in (400, 422)


CUTS: dict[str, tuple[bytes, str, str]] = {
    f"{form} in {encoding}": (ENCODINGS[encoding](body)[:-cut], content_type, encoding)
    for form, encoding, cut in [
        ("ndjson", "gzip", 1),
        ("ndjson", "zstd", 1),
        ("csv", "gzip", 8),
        ("arrow stream", "gzip", 4),
        ("arrow stream", "identity", 8),
        ("arrow stream", "identity", 4),
        ("arrow stream", "identity", 40),
        ("arrow file", "identity", 6),
        ("arrow file", "identity", 1),
        ("parquet", "identity", 1),
        ("parquet", "identity", 400),
        ("parquet", "zstd", 2),
        ("json rows", "identity", 1),
        ("json rows", "identity", 60),
        ("json columns", "identity", 1),
    ]
    for body, content_type in [FORMS[form]]
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_body_without_its_end(http: Http, flight: timestore.Client, dataset: str, cut: str) -> None:
    """A body whose own end is missing commits nothing, and leaves its idempotency key free."""
    body, content_type, encoding = CUTS[cut]
    refused = http.append(dataset, body, content_type, idempotency_key="a", content_encoding=encoding)
    assert (refused.status, refused.json["kind"]) == (422, "batch_invalid")
    assert [each for each in flight.datasets() if each["dataset"] == dataset] == []
    assert http.append(dataset, *FORMS["ndjson"], idempotency_key="a").status == 201


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("framing", ["length", "chunks", "bad chunk"])
def test_a_connection_that_is_cut(http: Http, flight: timestore.Client, dataset: str, form: str, framing: str) -> None:
    """A client that dies before its request has ended commits nothing, even if all rows were there."""
    body, content_type = FORMS[form]
    if framing == "length":
        headers = {"content_length": str(len(body) + 1)}
        with _request(http, dataset, content_type, headers) as connection:
            connection.sendall(body)
    else:
        with http.begin(dataset, content_type, body, idempotency_key="a") as connection:
            if framing == "bad chunk":
                connection.sendall(b"zz\r\n")
                assert answer_on(connection).status == 400
    wait_until(lambda: flight.stats()["running_puts"] == 0)
    assert [each for each in flight.datasets() if each["dataset"] == dataset] == []
    assert http.append(dataset, body, content_type, idempotency_key="a").status == 201


def _request(http: Http, dataset: str, content_type: str, headers: dict[str, str]) -> Any:
    connection = socket.create_connection((http.host, http.port), timeout=60)
    lines = [f"POST /v1/datasets/{dataset}/append HTTP/1.1", "Host: x", f"Content-Type: {content_type}"]
    lines += ["Idempotency-Key: a", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()), "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def test_numbers_survive_both_ways(http: Http, flight: timestore.Client, dataset: str) -> None:
    """64-bit integers and decimals of 38 digits are the same by JSON and CSV in, and by JSON, CSV and Arrow out."""
    schema = pa.schema(
        [("ts", pa.timestamp("ns", "UTC")), ("i", pa.int64()), ("u", pa.uint64()), ("d", pa.decimal128(38, 10))]
    )
    digits = "1234567890123456789012345678.0123456789"
    table = pa.table(
        [[1, 2], [-(2**63), 2**63 - 1], [0, 2**64 - 1], [Decimal(digits), Decimal("-0.0000000001")]], schema=schema
    )
    flight.append(dataset, table, idempotency_key="a")
    written = {each: http.get(f"/v1/datasets/{dataset}/rows?format={each}") for each in ("ndjson", "csv", "arrow")}
    assert written["arrow"].table.equals(table)
    assert f'"d":{digits}'.encode() in written["ndjson"].body
    assert b"18446744073709551615" in written["csv"].body
    for form, content_type in (("ndjson", NDJSON), ("csv", CSV), ("arrow", ARROW)):
        assert http.append(dataset, written[form].body, content_type, idempotency_key="a").status == 200


@pytest.mark.parametrize(
    ("body", "content_type", "row", "field"),
    [
        (_lines([*ROWS, ROWS[0] | {"n": 1.5}]), NDJSON, "5", "n"),
        (_lines([*ROWS, ROWS[0] | {"n": "1"}]), NDJSON, "5", "n"),
        (_lines([*ROWS, ROWS[0] | {"up": 1}]), NDJSON, "5", "up"),
        (json.dumps([*ROWS, ROWS[0] | {"other": 1}]).encode(), JSON, "5", "other"),
        (json.dumps({"ts": [ROWS[0]["ts"]] * 2, "host": ["x", 5]}).encode(), JSON, "1", "host"),
        (b"ts,n\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:00Z,1e3\n", CSV, "1", "n"),
        (b"ts,usage\n2026-01-01T00:00:00Z,1\n2026-01-01,1\n", CSV, "1", "ts"),
    ],
)
def test_a_value_of_another_type(
    http: Http, dataset: str, body: bytes, content_type: str, row: str, field: str
) -> None:
    """A value that is not exactly of its column's type refuses the whole append, naming row and field."""
    http.append(dataset, *FORMS["ndjson"])
    refused = http.append(dataset, body, content_type, idempotency_key="a")
    assert (refused.status, refused.json["kind"]) == (422, "schema_mismatch")
    assert refused.json["details"] == {"row": row, "field": field}
    assert f"row {row}" in refused.json["detail"]
    assert field in refused.json["detail"]
    assert http.get(f"/v1/datasets/{dataset}").json["version"] == 1


def test_types_that_text_cannot_say(http: Http, flight: timestore.Client, dataset: str) -> None:
    """A column without a form in JSON may be left out, and is refused by name where it is not."""
    flight.append(dataset, pa.table({"ts": TABLE["ts"], "raw": pa.array([b"x"] * 5)}))
    assert http.append(dataset, _lines([{"ts": ROWS[0]["ts"]}]), NDJSON).status == 201
    for body, content_type in (
        (_lines([{"ts": ROWS[0]["ts"], "raw": "eA=="}]), NDJSON),
        (b"ts,raw\n2026-01-01T00:00:00Z,x\n", CSV),
        (json.dumps({"ts": [ROWS[0]["ts"]], "raw": ["x"]}).encode(), JSON),
    ):
        refused = http.append(dataset, body, content_type)
        assert (refused.status, refused.json["kind"]) == (501, "unsupported")
        assert "'raw'" in refused.json["detail"]


def test_dictionaries_come_as_their_values(http: Http, flight: timestore.Client, dataset: str) -> None:
    """Columns that the dataset keeps encoded are sent as plain values, and the same append by both doors."""
    encoded = TABLE.set_column(1, "host", TABLE["host"].dictionary_encode())
    flight.append(dataset, encoded, idempotency_key="a")
    for body, content_type in FORMS.values():
        assert http.append(dataset, body, content_type, idempotency_key="a").status == 200
    assert http.get(f"/v1/datasets/{dataset}/rows").lines[0]["host"] == "h0"
    assert http.get(f"/v1/datasets/{dataset}/rows?format=arrow").table["host"].to_pylist() == TABLE["host"].to_pylist()


def test_a_new_dataset_needs_one_column_of_times(http: Http, dataset: str) -> None:
    """Several candidates are refused, naming the parameter that chooses; with it, the others stay text."""
    body = _lines([{"a": ROWS[0]["ts"], "b": ROWS[0]["ts"]}])
    refused = http.append(dataset, body, NDJSON)
    assert (refused.status, "?timestamp_column=" in refused.json["detail"]) == (422, True)
    assert http.append(dataset, body, NDJSON, "?timestamp_column=b&window=1h&order=any").status == 201
    described = http.get(f"/v1/datasets/{dataset}").json
    assert [column["type"] for column in described["columns"]] == ["string", "timestamp[us, tz=UTC]"]
    assert (described["timestamp_column"], described["window"], described["order"]) == ("b", "1h", "any")
    disagreeing = http.append(dataset, body, NDJSON, "?timestamp_column=a")
    assert (disagreeing.status, disagreeing.json["kind"]) == (409, "dataset_exists")


def test_an_array_larger_than_a_chunk(http: Http, flight: timestore.Client, dataset: str) -> None:
    """An array of some megabytes arrives whole and in order, pretty-printed or not."""
    rows = [
        {"ts": f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z", "t": f'{n},]"}}'} for n in range(40_000)
    ]
    for name, body in (("a", json.dumps(rows)), ("b", json.dumps(rows, indent=1))):
        assert http.append(dataset, body.encode(), JSON, idempotency_key=name).json["rows"] == len(rows)
    assert flight.read(dataset, version=1)["t"].to_pylist() == [row["t"] for row in rows]


def test_zero_rows(http: Http, dataset: str) -> None:
    """A body without rows is an append of none, where the dataset is there to say what they would be."""
    http.append(dataset, *FORMS["ndjson"])
    for body, content_type in ((b"", NDJSON), (b"[]", JSON), (b"ts\n", CSV), (b'{"ts":[]}', JSON)):
        answer = http.append(dataset, body, content_type)
        assert (answer.status, answer.json["rows"]) == (201, 0), answer.body


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_nothing(http: Http, dataset: str, encoding: str) -> None:
    """An empty body that should be compressed is a cut one."""
    http.append(dataset, *FORMS["ndjson"])
    assert http.append(dataset, b"", NDJSON, content_encoding=encoding).status == 422


def test_expected_rows(http: Http, dataset: str) -> None:
    """A body of other than the expected rows is refused whole."""
    refused = http.append(dataset, *FORMS["ndjson"], "?expected_rows=6")
    assert (refused.status, refused.json["kind"]) == (400, "row_count_mismatch")
    assert http.append(dataset, *FORMS["ndjson"], "?expected_rows=5").status == 201


def _status(answer: Answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == answer.status
    assert problem["type"] == f"urn:timestore:error:{problem['kind']}"
    assert set(problem) >= {"title", "detail", "details", "repeatable"}
    return answer.status, problem["kind"]


def test_statuses(http: Http, flight: timestore.Client, dataset: str) -> None:
    """Refusals are problem details with the status of their kind, or the one that HTTP has for them."""
    body = FORMS["ndjson"][0]
    http.append(dataset, body, NDJSON, idempotency_key="a")
    flight.abandon(dataset, "never")
    path = f"/v1/datasets/{dataset}"
    assert _status(http.append("no%20name", body, NDJSON)) == (400, "name_invalid")
    assert _status(http.append(dataset, body, NDJSON, "?expected_rows=x")) == (400, "descriptor_invalid")
    assert _status(http.append(dataset, body, NDJSON, idempotency_key="\xe9")) == (400, "name_invalid")
    assert _status(http.append(dataset, body, NDJSON, "?window=7m")) == (400, "descriptor_invalid")
    assert _status(http.append(dataset, body, "text/plain")) == (415, "unsupported")
    assert _status(http.append(dataset, body, NDJSON, content_encoding="br")) == (501, "unsupported")
    assert _status(http.append(dataset, body, NDJSON, idempotency_key="never")) == (409, "idempotency_abandoned")
    assert _status(http.append(dataset.upper(), body, NDJSON)) == (400, "name_invalid")
    backwards = _lines([ROWS[1], ROWS[0]])
    assert _status(http.append(dataset, backwards, NDJSON)) == (422, "timestamp_unordered")
    assert _status(http.get("/v1/datasets/none")) == (404, "dataset_not_found")
    assert _status(http.get(f"{path}/receipts/none")) == (404, "receipt_not_found")
    assert _status(http.get(f"{path}/receipts/never")) == (409, "idempotency_abandoned")
    assert _status(http.get(f"{path}/rows?version=9")) == (404, "version_not_found")
    assert _status(http.get(f"{path}/rows?version=1&as_of=2026-01-01T00:00:00Z")) == (400, "descriptor_invalid")
    assert _status(http.get(f"{path}/rows?column=none")) == (422, "schema_mismatch")
    assert _status(http.get(f"{path}/rows", accept="image/png")) == (406, "unsupported")
    assert _status(http.get("/nowhere")) == (404, "action_unknown")
    assert _status(http.request("DELETE", path)) == (405, "unsupported")


def test_a_receipt_by_its_key(http: Http, dataset: str) -> None:
    """A key of any printable characters finds its receipt, where the answer said that it is."""
    name = "job 7/part?1#50%&a=b"
    created = http.append(dataset, *FORMS["ndjson"], idempotency_key=name)
    found = http.get(created.headers["location"])
    assert (found.status, found.json) == (200, created.json)


def test_more_than_may_run(http: Http, flight: timestore.Client, dataset: str) -> None:
    """A client that is slow holds up nobody else, and its rows are there when it is done."""
    first, rest = FORMS["ndjson"][0][:50], FORMS["ndjson"][0][50:]
    with http.begin(dataset, NDJSON, first, idempotency_key="slow") as connection:
        assert http.append(f"{dataset}x", *FORMS["ndjson"]).status == 201
        connection.sendall(chunk(rest) + b"0\r\n\r\n")
        answer = answer_on(connection)
    assert (answer.status, answer.json["rows"]) == (201, 5)


def test_the_typed_error_of_the_other_door(http: Http, flight: timestore.Client, dataset: str) -> None:
    """What was appended by HTTP cannot be contradicted by Flight."""
    http.append(dataset, *FORMS["json columns"], idempotency_key="a")
    with pytest.raises(TimestoreError) as caught:
        flight.append(dataset, TABLE.slice(1), idempotency_key="a")
    assert caught.value.kind == "idempotency_conflict"
