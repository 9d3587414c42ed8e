"""Files to append, in the formats that have types of their own; text formats are in files of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from timestore.client.payload import BATCH_ROWS, Payload
from timestore_app.cli.csv_source import open_csv
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.json_source import open_json_lines
from timestore_app.cli.text_types import TextRules

FORMATS = ("parquet", "arrow", "arrow-stream", "csv", "jsonl")
TEXT_FORMATS = ("csv", "jsonl")
_BY_SUFFIX = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".arrows": "arrow-stream",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """How to read files."""

    format: str | None = None  # by the file's name
    delimiter: str | None = None  # of CSV; by the file's name
    rules: TextRules = field(default_factory=TextRules)


def open_source(path: Path, options: ReadingOptions) -> Payload:
    """Open a file so that it can be read more than once; raises ``CommandFailedError``."""
    format_ = options.format or format_of(path)
    try:
        match format_:
            case "parquet":
                return _open_parquet(path)
            case "arrow" | "arrow-stream":
                return _open_arrow(path)
            case "csv":
                delimiter = options.delimiter or ("\t" if path.suffix == ".tsv" else ",")
                return open_csv(path, delimiter=delimiter, rules=options.rules)
            case _:
                return open_json_lines(path, rules=options.rules)
    except pa.ArrowException as exc:
        raise CommandFailedError(f"{path} cannot be read as {format_}: {exc}") from exc


def format_of(path: Path) -> str:
    """Tell a file's format by its name."""
    format_ = _BY_SUFFIX.get(path.suffix.lower())
    if format_ is None:
        raise CommandFailedError(f"{path}: its name does not tell its format; give --format, one of {list(FORMATS)}")
    return format_


def _open_parquet(path: Path) -> Payload:
    def batches() -> Iterator[pa.RecordBatch]:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                yield batch.replace_schema_metadata(schema.metadata)

    with parquet.ParquetFile(path) as file:
        schema = _without_pandas(file.schema_arrow)
    return Payload(schema, batches, one_shot=False)


def _open_arrow(path: Path) -> Payload:
    """Read either IPC format: which one it is, the file itself says."""

    def batches() -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(path)) as source, _reader(source) as reader:
            stored = range(reader.num_record_batches) if isinstance(reader, pa.RecordBatchFileReader) else None
            found = (reader.get_batch(number) for number in stored) if stored is not None else reader
            for batch in found:
                yield batch.replace_schema_metadata(schema.metadata)

    with pa.memory_map(str(path)) as source, _reader(source) as reader:
        schema = _without_pandas(reader.schema)
    return Payload(schema, batches, one_shot=False)


def _reader(source: pa.NativeFile) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    magic = source.read(6)
    source.seek(0)
    return pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)


def _without_pandas(schema: pa.Schema) -> pa.Schema:
    """Drop the metadata in which pandas describes its frame: it belongs to the file, not to a dataset."""
    metadata = {name: value for name, value in (schema.metadata or {}).items() if name != b"pandas"}
    return schema.with_metadata(metadata or None)
