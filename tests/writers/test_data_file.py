"""One data file: what goes in comes out bit for bit, the file says what it is, and a failure leaves nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from readers.file_reader import FileReader
from timestore.datasets import Order
from timestore.digest import PayloadDigest
from timestore.errors import RetryableError, TimestoreError
from timestore.names import NO_KEY, PartitionKey
from timestore.windows import TimeWindow, WindowLength
from writers.data_file import AppendFacts, DuckDBWriter, FileRequest, FinishedFile

MEMORY_LIMIT_BYTES = 256 << 20
INT64 = 2**63
DAY = WindowLength.parse("1d").containing(0)
WRITTEN_AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


class Workbench:
    """A writer and a reader, as a server has them: each used for one file after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writer = DuckDBWriter(
            memory_limit_bytes=MEMORY_LIMIT_BYTES,
            keep_bytes=0,
            temporary_directory=directory / "duckdb",
            storage_version="v1.5.0",
        )
        self.reader = FileReader(memory_limit_bytes=MEMORY_LIMIT_BYTES)

    def write(self, table: pa.Table, path: Path | None = None, **facts: Any) -> FinishedFile:
        """Write a table as one file; keywords override what the file is said to be."""
        request: dict[str, Any] = {
            "file_id": uuid4(),
            "dataset": "cpu",
            "key": NO_KEY,
            "window": DAY,
            "timestamp_column": "ts",
            "order": Order.ANY,
            "schema": table.schema,
            "append": AppendFacts(append_id=UUID(int=1), idempotency_key="k"),
            "written_at": WRITTEN_AT,
        }
        return self.writer.write(FileRequest(**(request | facts)), table.to_batches(), path or self.new_path())

    def new_path(self) -> Path:
        """Return a path that is free."""
        return self.directory / f"{uuid4()}.duckdb"

    def read(self, path: Path) -> pa.Table:
        """Read a whole file back, as the schema in it says."""
        facts = self.reader.facts(path)
        return pa.Table.from_batches(list(self.reader.batches(path, facts, facts.schema.names)), facts.schema)


@pytest.fixture(name="bench", scope="module")
def _bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    bench = Workbench(tmp_path_factory.mktemp("files"))
    yield bench
    bench.writer.close()
    bench.reader.close()


@pytest.fixture(name="fresh_bench")
def _fresh_bench(tmp_path: Path) -> Iterator[Workbench]:
    """Give a workbench to a test that hurts it."""
    bench = Workbench(tmp_path)
    yield bench
    bench.writer.close()
    bench.reader.close()


def _digest(table: pa.Table) -> str:
    digest = PayloadDigest(table.schema)
    for batch in table.to_batches():
        digest.update(batch)
    return digest.finish()


def _bits(table: pa.Table) -> pa.Table:
    """Show floats as the integers of their bits, so that NaN equals itself and -0.0 does not equal 0.0."""
    shown = {pa.float32(): pa.int32(), pa.float64(): pa.int64()}
    columns = [
        pa.chunked_array([chunk.view(shown.get(column.type, column.type)) for chunk in column.chunks])
        for column in table.combine_chunks().columns
    ]
    return pa.Table.from_arrays(columns, names=table.schema.names)


def _assert_same(read: pa.Table, written: pa.Table) -> None:
    assert read.schema.equals(written.schema, check_metadata=True)
    assert _bits(read).equals(_bits(written))
    assert _digest(read) == _digest(written)


# --- bit for bit ----------------------------------------------------------------------------------------------------

NUMBERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
NUMBERS += [pa.float32(), pa.float64()]
STAMPS = [pa.timestamp(unit, tz) for unit in ("s", "ms", "us", "ns") for tz in (None, "UTC", "Europe/Berlin")]
STAMP_LIMITS = {"s": INT64 // 10**6, "ms": INT64 // 10**3, "us": INT64, "ns": INT64}
TEXTS = ["", "a", "\0", "a\0b", "\0\0", "ä", "日本", "\U0001f600", "'", '"', "\\", "\n", "NULL", "x" * 5_000, "e\u0301"]
FLOAT_BITS = [0, 1 << 63, 1, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0 << 48 | 1, 0xFFFF << 48 | 7]


def _random_column(data_type: pa.DataType, rows: int, random: np.random.Generator) -> pa.Array:
    """Make values of any bits; floats begin with 1.0 (see the test of NaNs alone)."""
    if data_type in (pa.string(), pa.large_string()):
        return pa.array([TEXTS[i] for i in random.integers(0, len(TEXTS), rows)], data_type)
    if data_type == pa.bool_():
        return pa.array(random.random(rows) < 0.5)
    if pa.types.is_timestamp(data_type):
        limit = STAMP_LIMITS[data_type.unit]
        values = random.integers(1 - limit, limit - 1, rows, np.int64)
        values[random.random(rows) < 0.3] = limit - 1
        values[random.random(rows) < 0.3] = 1 - limit
        return pa.array(values).view(data_type)
    values = np.frombuffer(random.bytes(rows * data_type.bit_width // 8), data_type.to_pandas_dtype()).copy()
    if data_type == pa.float64():
        special = random.random(rows) < 0.5
        values.view(np.uint64)[special] = random.choice(np.array(FLOAT_BITS, np.uint64), special.sum())
        values[0] = 1.0
    if data_type == pa.float32():
        special = random.random(rows) < 0.5
        values.view(np.uint32)[special] = random.choice(np.array([0, 1 << 31, 0x7FC00000, 0xFFC00001]), special.sum())
        values[0] = 1.0
    return pa.Array.from_buffers(data_type, rows, [None, pa.py_buffer(values.tobytes())])


def _random_table(rows: int, seed: int, null_share: float) -> pa.Table:
    random = np.random.default_rng(seed)
    columns = {"ts": pa.array(random.integers(-(2**40), 2**40, rows), pa.int64()).view(pa.timestamp("us", "UTC"))}
    for data_type in (*NUMBERS, *STAMPS, pa.bool_(), pa.string(), pa.large_string()):
        column = _random_column(data_type, rows, random)
        null = random.random(rows) < null_share
        null[0] = null_share == 1.0  # the 1.0 of floats stays
        columns[str(data_type)] = column.take(pa.array(np.arange(rows), mask=null))
    return pa.table(columns)


@settings(deadline=None, max_examples=12)
@given(rows=st.sampled_from([1, 2, 3, 300]), seed=st.integers(0, 2**32), null_share=st.sampled_from([0.0, 0.3, 1.0]))
def test_rows_come_back_bit_for_bit(bench: Workbench, rows: int, seed: int, null_share: float) -> None:
    """Every supported type, any bits, nulls, extreme stamps, texts with NUL: what is read is what was written."""
    table = _random_table(rows, seed, null_share)
    finished = bench.write(table)
    _assert_same(bench.read(finished.path), table)
    assert finished.digest == _digest(table)


def test_many_rows_come_back_bit_for_bit(bench: Workbench) -> None:
    """Beyond a row group and a batch of the reader, where compression is at work, too, and in their order."""
    table = pa.concat_tables([_random_table(rows, 1, 0.2) for rows in (120_000, 1, 15_000)])
    finished = bench.write(table)
    _assert_same(bench.read(finished.path), table)
    assert finished.rows == table.num_rows


def _floats(bits: list[int], data_type: pa.DataType) -> pa.Array:
    width = np.uint32 if data_type == pa.float32() else np.uint64
    return pa.Array.from_buffers(data_type, len(bits), [None, pa.py_buffer(np.array(bits, width).tobytes())])


@pytest.mark.parametrize(
    "bits",
    [
        [0x7FF8 << 48],
        [0xFFF8 << 48],  # what 0.0 / 0.0 gives on x86
        [0xFFF8 << 48 | 0xBEEF],
        [0x7FF0 << 48 | 1],
        [0x7FF8 << 48, 0xFFF8 << 48],
    ],
    ids=["nan", "-nan", "payload", "signalling", "two"],
)
def test_a_column_of_nans_alone_keeps_its_bits(bench: Workbench, bits: list[int]) -> None:
    """NaNs keep sign and payload even where a column has nothing else, and DuckDB would store one constant."""
    for rows in (2, 5_000):
        values = _floats((bits * rows)[:rows], pa.float64())
        table = pa.table({"ts": pa.array(range(rows), pa.timestamp("us")), "x": values})
        _assert_same(bench.read(bench.write(table).path), table)


def test_a_column_of_single_nans_alone_keeps_its_bits(bench: Workbench) -> None:
    """The same for 32 bits, and beside nulls."""
    values = _floats([0xFFC00000, 0xFFC00001, 0x7FC00000], pa.float32()).take(pa.array([0, None, 1, 2]))
    table = pa.table({"ts": pa.array(range(4), pa.timestamp("us")), "x": values})
    _assert_same(bench.read(bench.write(table).path), table)


@pytest.mark.parametrize("rows", [2, 100, 5_000])
def test_a_column_of_zeros_alone_keeps_its_signs(bench: Workbench, rows: int) -> None:
    """0.0 and -0.0 are equal, and different: neither runs nor constants mix them up."""
    for data_type, minus in ((pa.float64(), 1 << 63), (pa.float32(), 1 << 31)):
        for bits in ([0, minus], [0] * 50 + [minus] * 50, [minus]):
            values = _floats((bits * rows)[:rows], data_type)
            table = pa.table({"ts": pa.array(range(rows), pa.timestamp("us")), "x": values})
            _assert_same(bench.read(bench.write(table).path), table)


NAMES = ["a b", 'a"b', "a'b", "select", "rowid", "Ä", "日本", "incoming", "file", "data", "a.b", "*", "$1", "?", "{}"]
NAMES += [" ", "\n", "\\", "a;--", "x" * 3_000, "%s", "__index_level_0__"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:12]))
def test_columns_may_have_any_name(bench: Workbench, name: str) -> None:
    """Quotes, keywords, control characters, DuckDB's own names: a column's name is only a name."""
    table = pa.table({name: pa.array(["v", None]), "ts": pa.array([1, 2], pa.timestamp("us"))})
    _assert_same(bench.read(bench.write(table).path), table)


def test_the_timestamp_column_may_have_any_name(bench: Workbench) -> None:
    """Sorting and extremes find the timestamp column by its name, whatever that is."""
    table = pa.table({'t"s;': pa.array([2, 1], pa.timestamp("us"))})
    finished = bench.write(table, timestamp_column='t"s;', order=Order.SORT)
    assert bench.read(finished.path).column(0).to_pylist() == table.take([1, 0]).column(0).to_pylist()


def test_the_schema_comes_back_with_its_metadata(bench: Workbench) -> None:
    """The file keeps the Arrow schema it was written with: nullability, metadata of fields and schema, zones."""
    schema = pa.schema(
        [
            pa.field("ts", pa.timestamp("ms", "Europe/Berlin"), nullable=False, metadata={"unit": "ms"}),
            pa.field("x", pa.large_string(), metadata={b"\x00": b"\xff"}),
        ],
        metadata={"made by": "a test"},
    )
    table = pa.table([pa.array([1], schema.field(0).type), pa.array(["v"], pa.large_string())], schema=schema)
    path = bench.write(table).path
    assert bench.reader.facts(path).schema.equals(schema, check_metadata=True)
    assert bench.read(path).equals(table)


# --- order ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(batches=st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=30), min_size=1, max_size=4))
def test_a_sorted_file_is_sorted_stably(bench: Workbench, batches: list[list[int]]) -> None:
    """With ``order: sort`` rows are sorted by time, equal ones stay as they came, and the digest is of that order."""
    stamps = [stamp for batch in batches for stamp in batch]
    whole = pa.table({"ts": pa.array(stamps, pa.timestamp("ns")), "row": pa.array(range(len(stamps)))})
    ends = np.cumsum([0, *map(len, batches)])
    cut = pa.concat_tables([whole.slice(start, end - start) for start, end in pairwise(ends)])
    finished = bench.write(cut, order=Order.SORT)
    expected = whole.take(sorted(range(len(stamps)), key=lambda row: stamps[row]))
    read = bench.read(finished.path)
    assert read.equals(expected)
    assert finished.digest == _digest(read)


@pytest.mark.parametrize("order", [Order.ANY, Order.ORDERED])
def test_other_files_keep_the_order_of_arrival(bench: Workbench, order: Order) -> None:
    """Only ``sort`` sorts."""
    table = pa.table({"ts": pa.array([3, 1, 2], pa.timestamp("us"))})
    assert bench.read(bench.write(table, order=order).path).equals(table)


# --- what the file says about itself --------------------------------------------------------------------------------


def test_a_file_says_what_it_is(bench: Workbench) -> None:
    """``timestore_file`` has one row with all that a catalog would need to be rebuilt from files alone."""
    table = pa.table({"ts": pa.array([5, 7], pa.timestamp("ms")), "x": pa.array([1, None])})
    window = TimeWindow(start_s=-86_400, end_s=0)
    append = AppendFacts(append_id=UUID(int=7), idempotency_key="upload 17", fingerprint="f1:0", total_rows=9)
    key = PartitionKey.parse({"site": "ä", "region": "e/u"})
    finished = bench.write(table, file_id=UUID(int=8), key=key, window=window, append=append)
    with duckdb.connect(finished.path, read_only=True) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
        [row] = connection.sql("SELECT * FROM timestore_file").to_arrow_table().to_pylist()
    assert tables == [("data",), ("timestore_file",)]
    assert pa.ipc.read_schema(pa.py_buffer(row.pop("arrow_schema"))).equals(table.schema)
    instants = [row.pop(name).astimezone(UTC) for name in ("window_start", "window_end", "written_at")]
    assert instants == [window.start, window.end, WRITTEN_AT]
    told = {
        "append_id": str(UUID(int=7)),
        "idempotency_key": "upload 17",
        "fingerprint": "f1:0",
        "total_rows": 9,
        "rows": 2,
    }
    assert row == {
        "format_version": 2,
        "file_id": str(UUID(int=8)),
        "dataset": "cpu",
        "key": '{"region":"e/u","site":"ä"}',
        "timestamp_column": "ts",
        "row_count": 2,
        "arrow_bytes": table.nbytes,
        "digest": _digest(table),
        "appends": [told],
        "nan_bits": [],
        "replaces": [],
    }


def test_a_file_written_before_the_end_leaves_the_end_open(bench: Workbench) -> None:
    """Fingerprint and total are null in a file that was finished before its stream had ended."""
    finished = bench.write(pa.table({"ts": pa.array([5], pa.timestamp("ms"))}))
    with duckdb.connect(finished.path, read_only=True) as connection:
        [(appends,)] = connection.execute("SELECT appends FROM timestore_file").fetchall()
    assert (appends[0]["fingerprint"], appends[0]["total_rows"], appends[0]["rows"]) == (None, None, 1)


def test_a_finished_file_is_closed_and_described(bench: Workbench) -> None:
    """Size and checksum are those of the bytes on disk, extremes are in nanoseconds, and no WAL is beside the file."""
    stamps = pa.array([-62_072_524_800, 253_339_228_799, 0], pa.timestamp("s"))
    finished = bench.write(pa.table({"ts": stamps}))
    content = finished.path.read_bytes()
    assert finished.bytes == len(content)
    assert finished.checksum == f"xxh3:{xxhash.xxh3_128_hexdigest(content)}"
    assert (finished.min_ts_ns, finished.max_ts_ns) == (-62_072_524_800 * 10**9, 253_339_228_799 * 10**9)
    assert finished.rows == 3
    assert list(bench.directory.glob(f"{finished.path.name}*")) == [finished.path]


def test_a_path_may_have_quotes(bench: Workbench) -> None:
    """A data directory may be anywhere, also where somebody's name has an apostrophe."""
    directory = bench.directory / 'it\'s "here"; --'
    directory.mkdir()
    table = pa.table({"ts": pa.array([1], pa.timestamp("us"))})
    assert bench.read(bench.write(table, directory / "a'b.duckdb").path).equals(table)


# --- failures -------------------------------------------------------------------------------------------------------

ONE_ROW = pa.table({"ts": pa.array([1], pa.timestamp("us"))})


def _fails(fresh_bench: Workbench, table: pa.Table, path: Path, kind: str) -> None:
    with pytest.raises(TimestoreError) as caught:
        fresh_bench.write(table, path)
    assert caught.value.kind == kind
    # The writer is as good as new.
    assert fresh_bench.read(fresh_bench.write(ONE_ROW).path).equals(ONE_ROW)


def test_a_directory_that_is_gone(fresh_bench: Workbench) -> None:
    """Where nothing can be written the put is told to repeat, and the writer goes on with the next file."""
    path = fresh_bench.directory / "gone" / "a.duckdb"
    _fails(fresh_bench, ONE_ROW, path, "storage_unavailable")
    assert not path.parent.exists()


def test_a_path_that_is_a_directory(fresh_bench: Workbench) -> None:
    """A directory in the way is an error of storage, and stays."""
    path = fresh_bench.new_path()
    path.mkdir()
    _fails(fresh_bench, ONE_ROW, path, "storage_unavailable")
    assert path.is_dir()


def test_a_path_that_is_taken_by_a_stranger(fresh_bench: Workbench) -> None:
    """A file that is there already was not written by us: it is neither overwritten nor removed."""
    path = fresh_bench.new_path()
    path.write_bytes(b"somebody's")
    _fails(fresh_bench, ONE_ROW, path, "storage_unavailable")
    assert path.read_bytes() == b"somebody's"


def test_a_path_that_is_taken_by_a_data_file(fresh_bench: Workbench) -> None:
    """A finished file at the path stays as it is."""
    path = fresh_bench.write(ONE_ROW).path
    content = path.read_bytes()
    _fails(fresh_bench, ONE_ROW, path, "storage_unavailable")
    assert path.read_bytes() == content


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_a_value_that_does_not_fit_leaves_nothing(fresh_bench: Workbench, unit: str) -> None:
    """Should validation ever let a value pass that its form cannot hold, the file is refused and removed."""
    stamps = pa.array([INT64 - 1], pa.int64()).view(pa.timestamp(unit, "UTC"))
    path = fresh_bench.new_path()
    _fails(fresh_bench, ONE_ROW.append_column("x", stamps), path, "value_not_storable")
    assert not list(fresh_bench.directory.glob(f"{path.name}*"))


def test_a_file_that_cannot_be_read(fresh_bench: Workbench) -> None:
    """A missing or broken file is ``storage_unavailable`` to a reader, which goes on with the next."""
    broken = fresh_bench.new_path()
    broken.write_bytes(b"not a database" * 1_000)
    for path in (broken, fresh_bench.new_path()):
        with pytest.raises(RetryableError) as caught:
            fresh_bench.reader.facts(path)
        assert caught.value.kind == "storage_unavailable"
    assert fresh_bench.read(fresh_bench.write(ONE_ROW).path).equals(ONE_ROW)


def test_a_reader_may_be_left_half_way(fresh_bench: Workbench) -> None:
    """A client that stops reading leaves nothing attached: the same reader reads the next file."""
    table = pa.table({"ts": pa.array(range(200_000), pa.timestamp("us"))})
    path = fresh_bench.write(table).path
    batches = fresh_bench.reader.batches(path, fresh_bench.reader.facts(path), ["ts"])
    assert next(batches).num_rows > 0
    del batches
    assert fresh_bench.read(path).equals(table)
