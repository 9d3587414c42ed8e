"""The rows that everything is measured on."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest

from bench.data import DAY_US, HOSTS, SHAPES, START_US, deal, step_over_days

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.name)


@shapes
def test_rows_are_the_same_every_time_and_however_many(shape) -> None:
    """The rows of a shape are the same in every run, and the first ones do not depend on how many are made."""
    rows = shape.batch_rows + 1000
    few, more, again = list(shape.batches(1000)), list(shape.batches(rows)), list(shape.batches(rows))

    assert few[0].equals(more[0].slice(0, 1000))
    assert all(first.equals(second) for first, second in zip(more, again, strict=True))
    assert [batch.num_rows for batch in more] == [shape.batch_rows, 1000]


def test_rows_are_the_same_in_another_process() -> None:
    """A peer that makes the rows itself, importing nothing else of the harness, has the same ones."""
    program = (
        "import sys; from bench.data import SHAPES\n"
        "batch = next(SHAPES['iot'].batches(3000)); print(batch['ts'][7], batch[-1][7])\n"
        "print(sorted(name for name in sys.modules if name.startswith('bench')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    figures, modules = ended.stdout.splitlines()

    batch = next(SHAPES["iot"].batches(3000))
    assert figures == f"{batch['ts'][7]} {batch[-1][7]}"
    assert modules == "['bench', 'bench.data']"


@shapes
def test_the_size_of_a_row_is_what_plans_reckon_with(shape) -> None:
    """As many rows as a plan asks for have about the bytes that it asked for."""
    batch = next(shape.batches(shape.batch_rows))

    assert batch.nbytes / batch.num_rows == pytest.approx(shape.bytes_per_row, rel=0.1)
    assert shape.rows_of(10 * batch.nbytes) == pytest.approx(10 * batch.num_rows, rel=0.1)


def test_any_size_is_streamed() -> None:
    """A stream of a hundred billion rows can be begun: nothing is made before it is asked for."""
    tracemalloc.start()
    try:
        batches = list(islice(SHAPES["narrow"].batches(10**11), 2))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sum(batch.num_rows for batch in batches) == 2 * SHAPES["narrow"].batch_rows
    assert peak < 50_000_000


def test_dictionary_tags_have_the_values_of_plain_ones() -> None:
    """`dict` is `plain` in another encoding, one dictionary for the whole stream."""
    plain, encoded = (list(SHAPES[name].batches(70_000)) for name in ("plain", "dict"))

    assert pa.types.is_dictionary(encoded[0].schema.field("hostname").type)
    assert pa.Table.from_batches(encoded).cast(plain[0].schema).equals(pa.Table.from_batches(plain))
    assert encoded[0]["hostname"].dictionary.equals(encoded[1]["hostname"].dictionary)


def test_wide_rows_have_200_doubles() -> None:
    """`wide` has a timestamp and 200 doubles, in messages of a size that travels well."""
    batch = next(SHAPES["wide"].batches(10_000))

    assert batch.schema.types.count(pa.float64()) == 200
    assert batch.num_columns == 201
    assert batch.nbytes < 16_000_000


def test_five_percent_of_iot_come_late() -> None:
    """In `iot` about 5 % of the rows are older than some row before them; the other shapes are in order."""
    late = {}
    for name, shape in SHAPES.items():
        stamps = np.concatenate([np.asarray(batch["ts"].cast(pa.int64())) for batch in shape.batches(200_000)])
        late[name] = (stamps < np.maximum.accumulate(stamps)).mean()

    assert late.pop("iot") == pytest.approx(0.05, abs=0.005)
    assert set(late.values()) == {0.0}


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("days", [1, 28])
def test_rows_fill_the_days_that_were_asked_for(days, shuffled) -> None:
    """The rows lie in as many days as asked for, in order or at random, and every day has some."""
    rows = 64 * HOSTS + 17
    table = pa.Table.from_batches(SHAPES["narrow"].batches(rows, step_us=step_over_days(rows, days), shuffled=shuffled))
    stamps = np.asarray(table["ts"].cast(pa.int64()))

    assert set((stamps - START_US) // DAY_US) == set(range(days))
    assert (np.diff(stamps) < 0).any() == shuffled


def test_too_few_rows_for_the_days_are_refused() -> None:
    """Windows that would stay empty are refused, with the number of rows that is needed."""
    with pytest.raises(ValueError, match=r"1,024 rows are too few for 2 days: 2,048 are needed"):
        step_over_days(HOSTS, 2)


def test_dealing_loses_nothing() -> None:
    """Batches dealt out to streams are all the rows, and every stream gets some and stays in order."""
    batches = list(SHAPES["narrow"].batches(2000))
    streams = deal(batches, 3)

    assert sum(batch.num_rows for stream in streams for batch in stream) == 2000
    assert all(streams)
    for stream in streams:
        stamps = pa.Table.from_batches(stream)["ts"].to_pylist()
        assert stamps == sorted(stamps)
