"""What the client takes as data, and in what pieces it sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import timestore
from tests.fixtures.data import START, cpu_table
from timestore.client.payload import BATCH_BYTES, BATCH_ROWS, cut, payload_of
from timestore.errors import InvalidInputError

SENT = cpu_table(1_000)


class Streamed:
    """Something of another library that exports a stream."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return SENT.__arrow_c_stream__(requested_schema)


class Exported:
    """Something of another library that exports one batch."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return SENT.to_batches()[0].__arrow_c_array__(requested_schema)


SHAPES: dict[str, Callable[[], Any]] = {
    "table": lambda: SENT,
    "batch": lambda: SENT.to_batches()[0],
    "reader": SENT.to_reader,
    "list of batches": lambda: SENT.to_batches(max_chunksize=100),
    "list of tables": lambda: [SENT.slice(0, 10), SENT.slice(10)],
    "generator": lambda: (batch for batch in SENT.to_batches(max_chunksize=100)),
    "stream": Streamed,
    "array": Exported,
}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_every_shape_of_data_is_appended(client: timestore.Client, shape: str) -> None:
    """However the rows are held, the same rows arrive, with the same fingerprint."""
    receipt = client.append("cpu", SENT, idempotency_key="the same")

    again = client.append("cpu", SHAPES[shape](), idempotency_key="the same")

    assert again.replayed
    assert again.fingerprint == receipt.fingerprint


def test_pandas_frame(client: timestore.Client) -> None:
    """A pandas frame is appended by its columns: no index sneaks in, and pandas' own metadata stays behind."""
    frame = pd.DataFrame(
        {"ts": pd.date_range("2026-01-01", periods=4, freq="s", tz="UTC", unit="us"), "usage": [0.5, None, 1.5, 2.5]}
    )

    client.append("cpu", frame)

    read = client.read("cpu")
    assert read.schema.equals(
        pa.schema([("ts", pa.timestamp("us", "UTC")), ("usage", pa.float64())]), check_metadata=True
    )
    pd.testing.assert_frame_equal(read.to_pandas(), frame)


@pytest.mark.parametrize(
    "index", [pd.Index([7, 8, 9]), pd.RangeIndex(3, name="n"), pd.date_range("2026-01-01", periods=3, name="ts")]
)
def test_pandas_index_is_never_dropped_silently(client: timestore.Client, index: pd.Index) -> None:
    """An index that says something is neither stored under a made-up name nor lost: the error says what to do."""
    frame = pd.DataFrame({"usage": [1.0, 2.0, 3.0]}, index=index)

    with pytest.raises(InvalidInputError, match="reset_index"):
        client.append("cpu", frame)

    assert client.datasets() == []


def test_polars_frame(client: timestore.Client) -> None:
    """A polars frame is appended as it is."""
    stamps = pl.Series("ts", [START, START + 1], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"ts": stamps, "usage": [0.5, None], "errors": [1, 2]})

    client.append("cpu", [frame, frame.clear()])

    assert pl.DataFrame(client.read("cpu")).equals(frame)


@pytest.mark.parametrize("data", [{"ts": [1]}, "rows", 7, [7]])
def test_what_is_no_data(client: timestore.Client, data: Any) -> None:
    """Something without rows of a schema is a mistake in the program, named before anything is sent."""
    with pytest.raises(TypeError, match="cannot be appended"):
        client.append("cpu", data)


@pytest.mark.parametrize("data", [[], iter(())])
def test_no_batch_has_no_schema(client: timestore.Client, data: Any) -> None:
    """An iterable of nothing says no schema, so it cannot even be an append of no rows."""
    with pytest.raises(InvalidInputError, match="no schema"):
        client.append("cpu", data)


def test_batches_of_two_schemas(client: timestore.Client) -> None:
    """Batches that differ in schema are refused, naming the first that does; nothing is stored."""
    with pytest.raises(InvalidInputError, match="item 1 "):
        client.append("cpu", iter([SENT, SENT.drop_columns(["up"])]))

    assert client.datasets() == []


def test_failing_source_is_passed_on(client: timestore.Client) -> None:
    """What the caller's own generator raises arrives as it is; nothing is stored, and the client goes on."""

    def broken() -> Iterator[pa.Table]:
        yield SENT
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        client.append("cpu", broken(), idempotency_key="a")

    assert client.append("cpu", SENT, idempotency_key="a").version == 1


def _pieces(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    pieces = list(cut(batch))
    assert pa.Table.from_batches(pieces).equals(pa.Table.from_batches([batch]))
    return pieces


def test_long_batches_are_cut_by_rows() -> None:
    """Messages have at most 64 Ki rows, and no row is lost or moved."""
    assert [piece.num_rows for piece in _pieces(pa.record_batch({"n": np.arange(150_000)}))] == [
        BATCH_ROWS,
        BATCH_ROWS,
        150_000 - 2 * BATCH_ROWS,
    ]


@pytest.mark.parametrize("type_", [pa.string(), pa.string_view(), pa.large_binary()])
def test_wide_batches_are_cut_by_bytes(type_: pa.DataType) -> None:
    """Messages have about 8 MiB at most, in whatever way text is held; a wider row travels alone."""
    texts = ["x" * 100_000] * 300 + ["y" * (2 * BATCH_BYTES)] + ["z" * 100_000] * 10

    pieces = _pieces(pa.record_batch({"text": pa.array(texts, type_)}))

    large = [piece for piece in pieces if piece.serialize().size > BATCH_BYTES + 100_000]
    assert [piece.num_rows for piece in large] == [1]


def test_large_dictionary_is_not_cut_to_pieces() -> None:
    """A dictionary travels once: what it takes is no reason to cut rows."""
    words = pa.array([f"{number:01000}" for number in range(10_000)])
    column = pa.DictionaryArray.from_arrays(pa.array(np.arange(60_000) % 10_000, pa.int32()), words)

    assert len(_pieces(pa.record_batch({"word": column}))) == 1


def test_wide_rows_pass_a_small_limit(start_service: Callable[..., Any]) -> None:
    """Rows that together are far over the server's ``max_batch_bytes`` arrive: the client sends them in pieces."""
    service = start_service(max_batch_bytes="10MiB")
    wide = SENT.slice(0, 500).append_column("text", pa.array(["x" * 100_000] * 500))

    with timestore.connect(service.url) as client:
        assert client.append("cpu", wide.combine_chunks().to_batches()[0]).rows == 500


def test_what_can_be_sent_again() -> None:
    """Tables, batches and frames can be sent again after they were read; readers and generators cannot."""
    for data, again in [
        (SENT, True),
        ([SENT, SENT], True),
        (pl.DataFrame({"a": [1]}), True),
        (SENT.to_reader(), False),
        (iter([SENT]), False),
        (Streamed(), False),
        ([SENT.to_reader()], False),
    ]:
        payload = payload_of(data)
        assert payload.can_be_sent
        next(iter(payload))
        assert payload.can_be_sent is again
