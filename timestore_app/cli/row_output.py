"""Rows to the terminal, or to a file of any format; a file appears only when it is whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import tzinfo
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as parquet

from readers.json_text import json_text, json_values
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.output import print_table

STDOUT = "-"


class RowWriter(Protocol):
    """Writes batches of one schema."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""

    def close(self) -> None:
        """Write what ends the file."""


def write_rows(rows: pa.RecordBatchReader, target: str, format_: str, zone: tzinfo) -> int:
    """Write all rows to a file, or to standard output (``-``), and return how many there were."""
    count = 0
    with _destination(target) as out, closing(_WRITERS[format_](out, rows.schema, zone)) as writer:
        for batch in rows:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def print_rows(rows: pa.RecordBatchReader, *, limit: int, zone: tzinfo) -> None:
    """Print the first rows as a table, and say if there are more."""
    table = pa.Table.from_batches(_first(rows, limit + 1), rows.schema)
    shown = spelled_times(table.slice(0, limit), zone)
    print_table([[_cell(value) for value in row.values()] for row in _rows(shown)], shown.column_names)
    if table.num_rows > limit:
        sys.stderr.write(f"timestore: there are more than {limit} rows; see --limit, --json and --output\n")


def spelled_times(table: pa.Table, zone: tzinfo) -> pa.Table:
    """Turn timestamps into text: RFC 3339 in a zone, or without an offset where the column has no zone."""
    for place, column in enumerate(table.schema):
        if not pa.types.is_timestamp(column.type):
            continue
        values = table.column(place)
        if column.type.tz is None:
            texts = pc.strftime(values, format="%Y-%m-%dT%H:%M:%S")
        else:
            local = values.cast(pa.timestamp(column.type.unit, str(zone)))
            with_offset = pc.strftime(local, format="%Y-%m-%dT%H:%M:%S%z")
            texts = pc.replace_substring_regex(with_offset, r"([+-]\d\d)(\d\d)$", r"\1:\2")
            texts = pc.replace_substring_regex(texts, r"\+00:00$", "Z") if str(zone) == "UTC" else texts
        table = table.set_column(place, column.name, texts)
    return table


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield each row by the names of its columns."""
    columns = [[value for chunk in column.chunks for value in json_values(chunk)] for column in table.columns]
    for values in zip(*columns, strict=True):
        yield dict(zip(table.column_names, values, strict=True))


def _first(rows: pa.RecordBatchReader, limit: int) -> Iterator[pa.RecordBatch]:
    while limit > 0:
        try:
            batch = rows.read_next_batch()
        except StopIteration:
            return
        yield batch.slice(0, limit)
        limit -= batch.num_rows


@contextmanager
def _destination(target: str) -> Iterator[BinaryIO]:
    if target == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as out:
            yield out
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


class _CsvWriter:
    def __init__(self, out: BinaryIO, schema: pa.Schema, zone: tzinfo) -> None:
        self._zone = zone
        self._writer = csv.CSVWriter(out, spelled_times(schema.empty_table(), zone).schema)

    def write_batch(self, batch: pa.RecordBatch) -> None:
        try:
            self._writer.write_table(spelled_times(pa.Table.from_batches([batch]), self._zone))
        except pa.ArrowException as exc:
            raise CommandFailedError(f"these rows cannot be written as CSV: {exc}; use another format") from exc

    def close(self) -> None:
        self._writer.close()


class _JsonLinesWriter:
    def __init__(self, out: BinaryIO, schema: pa.Schema, zone: tzinfo) -> None:  # noqa: ARG002  # as all writers
        self._out = out
        self._zone = zone

    def write_batch(self, batch: pa.RecordBatch) -> None:
        for row in _rows(spelled_times(pa.Table.from_batches([batch]), self._zone)):
            self._out.write(json_text(row).encode() + b"\n")

    def close(self) -> None:
        pass


_WRITERS: dict[str, Callable[[BinaryIO, pa.Schema, tzinfo], RowWriter]] = {
    "parquet": lambda out, schema, _: parquet.ParquetWriter(out, schema, compression="zstd"),
    "arrow": lambda out, schema, _: pa.ipc.new_file(out, schema),
    "arrow-stream": lambda out, schema, _: pa.ipc.new_stream(out, schema),
    "csv": _CsvWriter,
    "jsonl": _JsonLinesWriter,
}


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case str():
            return value
        case bool():
            return "true" if value else "false"
    return json_text(value) if isinstance(value, dict | list) else str(value)
