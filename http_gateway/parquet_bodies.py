"""Bodies of Parquet, read from a file: its end says where everything is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as parquet

from http_gateway.rows import Rows
from timestore.errors import TimestoreError, error

BATCH_ROWS = 16_384
BUFFER_BYTES = 1 << 20  # of each column that is read at once


def open_parquet(file: IO[bytes]) -> Rows:
    """Open a file; raises ``batch_invalid``."""
    try:
        opened = parquet.ParquetFile(pa.PythonFile(file, mode="r"), buffer_size=BUFFER_BYTES, pre_buffer=False)
        schema = opened.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise _invalid(exc) from exc
    return Rows(schema=schema, batches=_batches(opened))


def _batches(opened: parquet.ParquetFile) -> Iterator[pa.RecordBatch]:
    rows = 0
    try:
        for batch in opened.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            rows += batch.num_rows
            yield batch
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise _invalid(exc) from exc
    if rows != opened.metadata.num_rows:
        raise _invalid(f"it has {rows} rows, but says {opened.metadata.num_rows}")


def _invalid(problem: object) -> TimestoreError:
    return error("batch_invalid", f"the body is not a whole and valid Parquet file: {problem}")
