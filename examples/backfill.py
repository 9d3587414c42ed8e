"""Append a directory of Parquet files over several streams at once, each file exactly once.

    python examples/backfill.py meters archive/ --streams 4

The name of a file below the directory is its idempotency key, and ``<name>=<value>`` directories above it are its
semantic key: archive/site=12/2025-03-01.parquet. Interrupt it and run it again at any time: files that are there
already are compared, and not stored twice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

import timestore


def main() -> None:
    arguments = _arguments()
    with timestore.connect(arguments.url, deadline_s=arguments.deadline) as client:
        results = client.append_many(_appends(arguments.dataset, arguments.directory), connections=arguments.streams)
    receipts = [result.receipt for result in results if result.receipt is not None]
    for result in results:
        if result.error is not None:
            print(f"{result.idempotency_key}: {result.error}", file=sys.stderr)
    replayed = sum(receipt.replayed for receipt in receipts)
    rows = sum(receipt.rows for receipt in receipts if not receipt.replayed)
    print(f"{len(receipts) - replayed} files appended ({rows} rows), {replayed} were there already")
    if failed := len(results) - len(receipts):
        sys.exit(f"{failed} files failed; run this again when their errors are mended")


def _appends(dataset: str, directory: Path) -> Iterator[timestore.Append]:
    """Yield one append for each file, by name. A file is read when its turn has come."""
    for file in sorted(directory.rglob("*.parquet")):
        inside = file.relative_to(directory)
        yield timestore.Append(
            dataset=dataset,
            data=pq.ParquetFile(file).read(),  # the file alone: `read_table` would add its directories as columns
            key=dict(part.split("=", 1) for part in inside.parent.parts if "=" in part),
            idempotency_key=inside.as_posix(),
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Append a directory of Parquet files, each exactly once.")
    parser.add_argument("dataset")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--streams", type=int, default=4, help="files that are sent at once")
    parser.add_argument("--deadline", type=float, default=600, metavar="SECONDS", help="how long to repeat a file")
    parser.add_argument("--url", default="grpc://127.0.0.1:8815")
    return parser.parse_args()


if __name__ == "__main__":
    main()
