"""Every type through a data file: what is written plain is read back in the form in which it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readers.file_reader import FileReader
from readers.forms.refusals import find_refused
from readers.plain import encoded_batches, plain_batch, plain_schema, take_batch
from tests.fixtures.arrow_values import SCHEMAS, assert_same, digest_of, random_batches
from tests.fixtures.fuzzing import examples
from timestore.datasets import Order
from timestore.names import NO_KEY
from timestore.windows import WindowLength
from writers.data_file import AppendFacts, DuckDBWriter, FileRequest
from writers.spill import SpillFile
from writers.staging_room import StagingRoom

MEMORY_LIMIT_BYTES = 256 << 20
ROOM = StagingRoom(limit_bytes=1 << 40)


class FileTrip:
    """Takes rows through a data file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writer = DuckDBWriter(
            memory_limit_bytes=MEMORY_LIMIT_BYTES,
            keep_bytes=0,
            temporary_directory=directory / "duckdb",
            storage_version="v1.5.0",
        )
        self.reader = FileReader(memory_limit_bytes=MEMORY_LIMIT_BYTES)

    def take(self, plain: list[pa.RecordBatch], schema: pa.Schema, order: Order = Order.ANY) -> pa.Table:
        """Write plain rows and read them in the forms of their schema."""
        request = FileRequest(
            file_id=uuid4(),
            dataset="cpu",
            key=NO_KEY,
            window=WindowLength.parse("1d").containing(0),
            timestamp_column="ts",
            order=order,
            schema=schema,
            append=AppendFacts(append_id=UUID(int=1), idempotency_key="k"),
            written_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        path = self.directory / f"{request.file_id}.duckdb"
        finished = self.writer.write(request, plain, path)
        assert order is Order.SORT or finished.digest == digest_of(plain, plain_schema(schema))
        facts = self.reader.facts(path)
        assert facts.schema.equals(schema, check_metadata=True)
        batches = self.reader.batches(path, facts, facts.schema.names)
        read = [encoded for batch in batches for encoded in encoded_batches(batch, schema)]
        path.unlink()
        return pa.Table.from_batches(read, schema)


@pytest.fixture(name="trip", scope="module")
def _trip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileTrip]:
    trip = FileTrip(tmp_path_factory.mktemp("files"))
    yield trip
    trip.writer.close()
    trip.reader.close()


@settings(deadline=None, max_examples=examples(60))
@given(
    schema=SCHEMAS,
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=3).filter(any),
    seed=st.integers(0, 2**32),
)
def test_any_rows_come_back_bit_for_bit(trip: FileTrip, schema: pa.Schema, sizes: list[int], seed: int) -> None:
    """Whatever the types, nesting, encodings, nulls, slices and batches: what is read is what was sent."""
    assert all(find_refused(field) is None for field in schema)
    sent = random_batches(schema, sizes, np.random.default_rng(seed))
    plain = [plain_batch(batch) for batch in sent]
    for batch in plain:
        batch.validate()
        assert batch.schema.equals(plain_schema(schema), check_metadata=True)
    assert digest_of(plain, plain_schema(schema)) == digest_of(sent, schema)
    assert_same(trip.take(plain, schema), sent, schema)


@settings(deadline=None, max_examples=examples(30))
@given(
    schema=SCHEMAS,
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
    order=st.sampled_from([Order.ANY, Order.SORT]),
)
def test_any_rows_go_every_way_that_a_put_has(
    trip: FileTrip, schema: pa.Schema, sizes: list[int], seed: int, order: Order
) -> None:
    """Joining, routing, spilling, cutting and sorting work with every type, and change no bit."""
    random = np.random.default_rng(seed)
    sent = random_batches(schema, sizes, random)
    joined = pa.concat_batches([plain_batch(batch) for batch in sent])
    shuffle = random.permutation(joined.num_rows)
    shuffled = take_batch(joined, shuffle)
    spill = SpillFile(path=trip.directory / f"{uuid4()}.arrow", room=ROOM)
    mapped, _ = spill.write(shuffled.slice(0, joined.num_rows // 2))
    spill.close()
    parts = [mapped, shuffled.slice(joined.num_rows // 2)]
    if order is Order.ANY:
        parts = [take_batch(pa.concat_batches(parts), np.argsort(shuffle))]
    assert_same(trip.take([part for part in parts if part.num_rows], schema, order), sent, schema)


@settings(deadline=None, max_examples=examples(30))
@given(schema=SCHEMAS, rows=st.integers(1, 40), seed=st.integers(0, 2**32), data=st.data())
def test_any_rows_may_be_filtered(schema: pa.Schema, rows: int, seed: int, data: st.DataObject) -> None:
    """Reads cut time ranges out of plain rows, whatever their types; a column that older files lack is null."""
    random = np.random.default_rng(seed)
    [sent] = random_batches(schema, [rows], random)
    first = data.draw(st.integers(0, rows - 1))
    wanted = np.arange(rows) >= first
    kept = take_batch(plain_batch(sent), np.flatnonzero(wanted))
    read = pa.Table.from_batches(list(encoded_batches(kept, schema)), schema)
    assert_same(read, [sent.slice(first)], schema)
    missing = [pa.nulls(rows, field.type) for field in plain_schema(schema)]
    nulls = pa.RecordBatch.from_arrays(missing, schema=plain_schema(schema))
    [encoded] = encoded_batches(nulls, schema)
    encoded.validate()
    assert digest_of([encoded], schema) == digest_of([nulls], plain_schema(schema))
