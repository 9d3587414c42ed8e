"""Append a CSV file to a dataset, exactly once.

    python examples/ingest_csv.py meters june.csv --key site=12 --time-column time

Run it as often as you like: the idempotency key is a hash of the file and of the semantic key, so the same file is
appended once, and a changed one is another append.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv

import timestore


def main() -> None:
    arguments = _arguments()
    key = dict(part.split("=", 1) for part in arguments.key)
    table = _read(arguments.file, arguments.time_column)
    with timestore.connect(arguments.url) as client:
        try:
            receipt = client.append(
                arguments.dataset,
                table,
                key=key,
                idempotency_key=_name_of(arguments.file, key),
                create={"timestamp_column": arguments.time_column},
            )
        except timestore.TimestoreError as failure:
            sys.exit(f"{arguments.file} was not appended: {failure}")
    done = "were there already" if receipt.replayed else "appended"
    print(f"{arguments.file}: {receipt.rows} rows {done}, version {receipt.version} of {receipt.dataset}")


def _read(file: Path, time_column: str) -> pa.Table:
    """Read the file, in the order of time. Times must say their offset or be UTC; they become microseconds."""
    table = csv.read_csv(file)
    index = table.schema.get_field_index(time_column)
    if index < 0:
        sys.exit(f"{file} has no column {time_column!r}; it has {table.column_names}")
    times = table.column(index)
    if not pa.types.is_timestamp(times.type):
        sys.exit(f"the column {time_column!r} of {file} is {times.type}, not a time like 2026-01-31T00:00:00Z")
    return table.set_column(index, time_column, times.cast(pa.timestamp("us", "UTC"))).sort_by(time_column)


def _name_of(file: Path, key: dict[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(key.items())).encode())
    digest.update(file.read_bytes())
    return f"csv-{digest.hexdigest()}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Append a CSV file to a dataset, exactly once.")
    parser.add_argument("dataset")
    parser.add_argument("file", type=Path)
    parser.add_argument("--key", action="append", default=[], metavar="NAME=VALUE", help="a part of the semantic key")
    parser.add_argument("--time-column", default="time")
    parser.add_argument("--url", default="grpc://127.0.0.1:8815")
    return parser.parse_args()


if __name__ == "__main__":
    main()
