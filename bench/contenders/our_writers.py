"""Timestore's own writers, one for each core, on rows that lie in memory: the files of a put without the put."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from bench.contenders import OUR_WRITERS
from bench.contenders.duckdb_files import STORAGE_VERSION, shares
from bench.data import DAY_US, START_US, TIMESTAMP_COLUMN
from bench.load import Load
from bench.measuring import CORES, AbsentError, Figures, check, own_cpu_s, timed_in_parallel
from readers.forms import storage_form
from readers.plain import plain_batch
from timestore.datasets import Order
from timestore.names import NO_KEY
from timestore.windows import TimeWindow
from timestore_app.settings import Settings
from writers.data_file import AppendFacts, DuckDBWriter, FileRequest

_Job = tuple[DuckDBWriter, pa.Table, Path]


class OurWriters:
    """Decodes dictionaries, digests rows, and writes, fsyncs and hashes files."""

    name = OUR_WRITERS
    durability = "each file fsynced"

    def __init__(self, *, folder: Path) -> None:
        self._folder = folder
        budget = Settings.load(None, {}).memory_budget  # shared out as the server does
        self._writers = [
            DuckDBWriter(
                memory_limit_bytes=budget // 4 // CORES,
                keep_bytes=budget // 2,
                temporary_directory=folder,
                storage_version=STORAGE_VERSION,
            )
            for _ in range(CORES)
        ]

    def run(self, load: Load) -> Figures:
        """Write all rows of one window; the writers' own counts are checked."""
        if refused := [field.name for field in load.rows.schema if storage_form(field.type) is None]:
            raise AbsentError(f"they cannot write columns such as {refused[0]}")
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            jobs = [
                (writer, part, Path(folder) / f"{number}.duckdb")
                for number, (writer, part) in enumerate(zip(self._writers, shares(load.rows), strict=False))
            ]
            cpu_before = own_cpu_s()
            seconds, counts = timed_in_parallel(_write, jobs)
            cpu_s = own_cpu_s() - cpu_before
        check(sum(counts) == load.rows.rows, f"the writers wrote {sum(counts):,} of {load.rows.rows:,} rows")
        return {"seconds": seconds, "cpu_s": cpu_s}

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


def _write(job: _Job) -> int:
    writer, part, path = job
    return writer.write(_request(part.schema), [plain_batch(batch) for batch in part.to_batches()], path).rows


def _request(schema: pa.Schema) -> FileRequest:
    first_day_s = START_US // 1_000_000
    return FileRequest(
        file_id=uuid4(),
        dataset="bench",
        key=NO_KEY,
        window=TimeWindow(start_s=first_day_s, end_s=first_day_s + DAY_US // 1_000_000),
        timestamp_column=TIMESTAMP_COLUMN,
        order=Order.ORDERED,
        schema=schema,
        append=AppendFacts(append_id=uuid4(), idempotency_key="bench"),
        written_at=datetime.now(UTC),
    )
