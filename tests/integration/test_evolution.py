"""How a dataset's schema changes, and what becomes of puts that change it, or create it, at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import timestore
from tests.fixtures.files import published_files
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import StartService
from timestore.errors import ConflictError, InvalidInputError, TimestoreError

TS = pa.timestamp("us", "UTC")
DAY = 86_400 * 10**6
OPEN = {"end": "eof"}


def _table(rows: int = 3, first: int = 0, **columns: Any) -> pa.Table:
    """Rows a second apart, with other columns of one value or of an array."""
    stamps = pa.array([(first + row) * 10**6 for row in range(rows)], pa.int64()).view(TS)
    arrays = {name: _repeated(value, rows) for name, value in columns.items()}
    return pa.table({"ts": stamps, **arrays})


def _repeated(value: Any, rows: int) -> pa.Array:
    return value if isinstance(value, pa.Array) else pa.repeat(value, rows)


def _int(value: int, type_: pa.DataType) -> pa.Scalar:
    return pa.scalar(value, type_)


def _begin(url: str, sent: pa.Table, **fields: Any) -> RawPut:
    """Begin a put, wait until it is ready, and send its rows."""
    put = RawPut(url, command(dataset="cpu", **OPEN, **fields), sent.schema)
    answer = put.answer()
    assert answer is not None
    assert answer["type"] == "ready"
    put.send(sent)
    return put


def _refusal(put: RawPut) -> TimestoreError:
    with pytest.raises(TimestoreError) as caught:
        put.finish()
    return caught.value


def _nothing_is_left(client: timestore.Client, data: Path) -> None:
    """Every file is listed, and no intent is open: a put that was refused is not half there."""
    listed = len(client.manifest("cpu")) if client.datasets() else 0
    assert len(published_files(data)) == listed
    assert client.stats()["intents"] == 0


# --- puts that evolve at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first first", "second first"])
def test_changes_that_fit_together_both_land(server_url: str, client: timestore.Client, order: tuple[int, int]) -> None:
    """Two puts that were ready with one schema and change it differently both commit, whoever is first."""
    client.append("cpu", _table(a=_int(1, pa.int8())))
    sent = [_table(a=_int(2, pa.int8()), b="b"), _table(a=_int(70_000, pa.int32()), c=1.5)]
    puts = [_begin(server_url, table) for table in sent]

    versions = [puts[number].finish()["version"] for number in order]

    assert versions == [2, 3]
    read = client.read("cpu")
    assert set(read.schema.names) == {"ts", "a", "b", "c"}
    assert read.schema.field("a").type == pa.int32()
    assert sorted(read.column("a").to_pylist()) == [1] * 3 + [2] * 3 + [70_000] * 3
    assert (read.column("b").null_count, read.column("c").null_count) == (6, 6)
    between = client.read("cpu", version=2)
    assert set(between.schema.names) == {"ts", "a", "b" if order[0] == 0 else "c"}
    assert between.num_rows == 6
    assert client.read("cpu", version=1).equals(_table(a=_int(1, pa.int8())))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first first", "second first"])
@pytest.mark.parametrize(
    "sent",
    [
        (_table(x=1), _table(x="text")),
        (_table(x=1), _table(X=1)),
        (_table(x=_int(1, pa.int16())), _table(x=_int(1, pa.uint64()))),
    ],
    ids=["types", "twins", "widths"],
)
def test_changes_that_exclude_each_other(
    server_url: str, client: timestore.Client, tmp_path: Path, sent: Sequence[pa.Table], order: tuple[int, int]
) -> None:
    """Of two puts that cannot both be, the second to commit is refused as a mismatch; nothing of it is stored."""
    client.append("cpu", _table())
    puts = [_begin(server_url, table, idempotency_key=f"k{number}") for number, table in enumerate(sent)]
    winner, loser = order

    receipt = puts[winner].finish()
    refusal = _refusal(puts[loser])

    assert refusal.kind == "schema_mismatch"
    assert client.describe("cpu")["version"] == receipt["version"] == 2
    assert client.read("cpu").schema.equals(sent[winner].schema)
    _nothing_is_left(client, tmp_path / "data")
    assert client.append("cpu", sent[winner], idempotency_key=f"k{loser}").version == 3  # the key stayed free


def test_a_dataset_that_forbids_change_keeps_its_schema(server_url: str, client: timestore.Client) -> None:
    """With evolution none a put that brings a column is refused before it sends data, and what fits is taken."""
    client.append("cpu", _table(a=1), create={"evolution": "none"})

    with pytest.raises(InvalidInputError) as caught:
        client.append("cpu", _table(a=1, b=1))

    assert (caught.value.kind, caught.value.details["column"]) == ("schema_mismatch", "b")
    assert client.append("cpu", _table()).version == 2
    assert client.read("cpu").column("a").to_pylist() == [1, 1, 1, None, None, None]


def test_sixteen_puts_evolve_at_once(start_service: StartService) -> None:
    """16 puts on two servers, each with a column of its own and some wider types: no gap, nothing lost, and every
    version shows the schema and the rows that it had.
    """
    urls = [start_service().url, start_service().url]
    widths = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
    barrier = threading.Barrier(16)

    def append(number: int) -> timestore.Receipt:
        sent = _table(5, n=_int(number, widths[number % 4]), **{f"c{number}": number})
        with timestore.connect(urls[number % 2]) as own:
            barrier.wait()
            return own.append("cpu", sent)

    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(append, range(16)))

    assert sorted(receipt.version for receipt in receipts) == list(range(1, 17))
    number_of = {receipt.version: number for number, receipt in enumerate(receipts)}
    with timestore.connect(urls[0]) as client:
        for version in range(1, 17):
            landed = [number_of[earlier] for earlier in range(1, version + 1)]
            read = client.read("cpu", version=version)
            assert read.schema.names == ["ts", "n", *(f"c{number}" for number in landed)]
            assert read.schema.field("n").type == widths[max(number % 4 for number in landed)]
            assert sorted(read.column("n").to_pylist()) == sorted(landed * 5)
            for number in landed:
                assert read.column(f"c{number}").drop_null().to_pylist() == [number] * 5
        assert client.describe("cpu")["schema_version"] <= 16


# --- first puts that create differently -----------------------------------------------------------------------------

TWO_TIMES = _table(at=pa.array([DAY] * 3, pa.int64()).view(TS))
FirstPut = tuple[pa.Table, dict[str, Any]]
CREATIONS: dict[str, tuple[FirstPut, FirstPut, str, str]] = {
    # what each of two first puts sends, what the loser hears, and what it hears when it sends the same again
    "window": ((_table(), {}), (_table(), {"create": {"window": "1h"}}), "fenced", "dataset_exists"),
    "default window": ((_table(), {"create": {"window": "month"}}), (_table(), {}), "fenced", ""),
    "timestamp column": (
        (TWO_TIMES, {"create": {"timestamp_column": "ts"}}),
        (TWO_TIMES, {"create": {"timestamp_column": "at"}}),
        "fenced",
        "dataset_exists",
    ),
    "order": ((_table(), {}), (_table(), {"create": {"order": "any"}}), "fenced", "dataset_exists"),
    "bounds": (
        (_table(), {"create": {"max": "1970-01-01T00:00:03Z"}}),
        (_table(first=60), {}),
        "fenced",
        "timestamp_out_of_bounds",
    ),
    "key names": (
        (_table(), {"key": {"a": "1"}}),
        (_table(), {"key": {"b": "1"}}),
        "schema_mismatch",
        "schema_mismatch",
    ),
    "no key": ((_table(), {"key": {"a": "1"}}), (_table(), {}), "schema_mismatch", "schema_mismatch"),
    "a key like a column": ((_table(a=1), {}), (_table(), {"key": {"a": "1"}}), "schema_mismatch", "schema_mismatch"),
    "types": ((_table(a=1), {}), (_table(a="text"), {}), "schema_mismatch", "schema_mismatch"),
    "evolution": (
        (_table(), {"create": {"evolution": "none"}}),
        (_table(), {"create": {"evolution": "additive"}}),
        "fenced",
        "dataset_exists",
    ),
}


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("case", CREATIONS)
def test_first_puts_that_create_differently(
    start_service: StartService, tmp_path: Path, case: str, servers: int
) -> None:
    """Both were ready to create the dataset; one does. The other is refused with a type, and nothing of it is there:
    no row was ever committed under another window, key or timestamp column than it was routed by.
    """
    (first, first_fields), (second, second_fields), heard, heard_again = CREATIONS[case]
    urls = [start_service().url for _ in range(servers)]
    winner = _begin(urls[0], first, **first_fields)
    loser = _begin(urls[-1], second, idempotency_key="b", **second_fields)

    receipt = winner.finish()
    refusal = _refusal(loser)

    assert refusal.kind == heard
    with timestore.connect(urls[-1]) as client:
        assert client.read("cpu").equals(first)
        assert client.describe("cpu")["version"] == receipt["version"] == 1
        _nothing_is_left(client, tmp_path / "data")
        again = RawPut(urls[-1], command(dataset="cpu", idempotency_key="b", **OPEN, **second_fields), second.schema)
        try:
            if again.answer() is not None:
                again.send(second)
            result = again.finish()["type"]
        except TimestoreError as failure:
            result = failure.kind
        assert result == (heard_again or "receipt")


@pytest.mark.parametrize("servers", [1, 2])
def test_first_puts_that_agree_both_land(start_service: StartService, servers: int) -> None:
    """Two first puts with the same options, and columns that fit together, make one dataset and two versions."""
    urls = [start_service().url for _ in range(servers)]
    create = {"window": "24h", "order": "sort"}
    puts = [
        _begin(urls[0], _table(a=1), create=create, key={"site": "1"}),
        _begin(urls[-1], _table(b="b"), create=create | {"window": "1d"}, key={"site": "2"}),
    ]

    receipts = [put.finish() for put in puts]

    assert [receipt["version"] for receipt in receipts] == [1, 2]
    assert receipts[0]["incarnation"] == receipts[1]["incarnation"]
    with timestore.connect(urls[0]) as client:
        read = client.read("cpu")
        assert read.schema.names == ["ts", "a", "b"]
        assert (read.column("a").null_count, read.column("b").null_count) == (3, 3)


def test_a_creation_without_rows_comes_between(server_url: str, client: timestore.Client, tmp_path: Path) -> None:
    """``create_dataset`` wins against a put that was ready to create: a put that agrees lands, another is refused."""
    agrees = _begin(server_url, _table(a=1), create={"window": "1h"})
    differs = _begin(server_url, _table(a=1), create={"window": "1d"})
    client.create_dataset("cpu", _table(0).schema, window="1h")

    assert agrees.finish()["version"] == 1
    assert _refusal(differs).kind == "fenced"
    assert client.read("cpu").equals(_table(a=1))
    _nothing_is_left(client, tmp_path / "data")


def test_names_that_differ_in_case_do_not_both_come_to_be(server_url: str, client: timestore.Client) -> None:
    """``cpu`` and ``CPU`` created at once: one is, the other is refused, and hears why when it is sent again."""
    winner = _begin(server_url, _table())
    loser = RawPut(server_url, command(dataset="CPU", **OPEN), _table().schema)
    assert loser.answer() is not None
    winner.finish()

    assert _refusal(loser).kind == "fenced"
    with pytest.raises(InvalidInputError) as caught:
        client.append("CPU", _table())
    assert caught.value.kind == "name_invalid"
    assert [entry["dataset"] for entry in client.datasets()] == ["cpu"]


def test_first_appends_with_other_key_names(server_url: str, client: timestore.Client, tmp_path: Path) -> None:
    """A dataset that was created without rows has no key names yet; two first appends do not fix two of them."""
    client.create_dataset("cpu", _table(0).schema)
    winner, loser = (_begin(server_url, _table(), key={name: "1"}) for name in ("a", "b"))
    winner.finish()

    assert _refusal(loser).kind == "schema_mismatch"
    assert client.describe("cpu")["key_names"] == ["a"]
    _nothing_is_left(client, tmp_path / "data")


# --- before and after a change --------------------------------------------------------------------------------------


def test_older_producers_go_on_after_every_change(client: timestore.Client) -> None:
    """A producer that knows neither new columns nor wider types keeps appending; its rows read in the newest schema."""
    old = _table(n=_int(1, pa.uint8()), f=_int(1, pa.int8()).cast(pa.float32()))
    client.append("cpu", old)
    client.append("cpu", _table(n=_int(-70_000, pa.int32()), f=1.5, note="x"))

    client.append("cpu", old)

    read = client.read("cpu")
    assert [str(field.type) for field in read.schema] == ["timestamp[us, tz=UTC]", "int32", "double", "string"]
    assert read.column("n").to_pylist() == [1] * 3 + [-70_000] * 3 + [1] * 3
    assert read.column("note").null_count == 6
    assert client.describe("cpu")["schema_version"] == 2


def test_a_retry_from_before_a_change_is_a_replay(client: timestore.Client) -> None:
    """Digest and fingerprint are over what was sent: the same stream matches after columns were added and widened."""
    old = _table(n=_int(1, pa.int8()), tag="eu")
    first = client.append("cpu", old, idempotency_key="a")
    client.append("cpu", _table(n=_int(1, pa.int16()), extra=1))
    client.append("cpu", _table(n=_int(70_000, pa.int64()), tag="us"))

    again = client.append("cpu", old, idempotency_key="a")

    assert again == first.as_replay()
    dictionary = old.set_column(2, "tag", old.column("tag").dictionary_encode())
    assert client.append("cpu", dictionary.select(["tag", "ts", "n"]), idempotency_key="a") == first.as_replay()
    widened = old.set_column(1, "n", old.column("n").cast(pa.int16()))
    for other in (widened, old.append_column("extra", pa.nulls(3, pa.int64()))):
        with pytest.raises(ConflictError) as caught:
            client.append("cpu", other, idempotency_key="a")
        assert caught.value.kind == "idempotency_conflict"
    assert client.describe("cpu")["version"] == 3


def test_a_retry_that_would_not_fit_any_more_is_a_replay(client: timestore.Client) -> None:
    """The idempotency key is looked up before the schema: even what no new put may send is answered by its receipt."""
    sent = _table(x=1)
    first = client.append("cpu", sent, key={"a": "1"}, idempotency_key="a", create={"window": "1h"})

    again = client.append("cpu", sent, key={"a": "1"}, idempotency_key="a", create={"window": "1d"})

    assert again == first.as_replay()


@pytest.mark.parametrize("fails", ["unordered", "no end", "other count"])
def test_a_put_that_fails_after_ready_changes_no_schema(
    server_url: str, client: timestore.Client, tmp_path: Path, fails: str
) -> None:
    """Only a commit changes a schema: a put that brings columns and fails leaves it as it was, and creates nothing."""
    for created in (False, True):
        if created:
            client.append("cpu", _table(a=_int(1, pa.int8())))
        before = client.datasets()
        sent = _table(a=_int(1, pa.int64()), b=1)
        put = RawPut(server_url, command(dataset="cpu", idempotency_key="b"), sent.schema)
        assert put.answer() is not None
        put.send(sent)
        if fails == "unordered":
            put.send(sent)
        elif fails == "other count":
            put.mark_end(7)

        refusal = _refusal(put)

        assert refusal.kind in ("timestamp_unordered", "end_missing", "row_count_mismatch")
        assert client.datasets() == before
        _nothing_is_left(client, tmp_path / "data")
    assert client.append("cpu", _table(a=_int(2, pa.int8())), idempotency_key="b").version == 2
    assert client.read("cpu").schema.names == ["ts", "a"]
