"""What every peer does: take rows from an Arrow file, store them durably while the clock runs, read all of them back.

A peer is a module with a class that has ``prepare``, ``ingest`` and ``read_back``, and ends with ``run(ThatClass)``.
It is run as ``python -m bench.peers.NAME --input ROWS.arrow --dir EMPTY [--postgres DSN]`` by the Python of its own
environment, and prints one line of JSON. Whatever else goes wrong ends it with a traceback and exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from bench.row_digest import RowDigest

CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a peer may keep its data: an empty directory, and a Postgres if it asked for one."""

    directory: Path
    postgres_dsn: str


class Peer(Protocol):
    """A system that stores rows."""

    def prepare(self, place: Place, schema: pa.Schema) -> None:
        """Make the table, and whatever else is done once in the life of a system. Not timed."""

    def ingest(self, rows: pa.Table) -> None:
        """Store all rows, visible to others on return. Timed, together with an fsync of every file in the directory."""

    def read_back(self) -> Iterable[pa.RecordBatch]:
        """Give every row, in any order. Not timed."""


def run(make_peer: Callable[[], Peer]) -> None:
    """Do what the command line says and print the line of JSON."""
    parser = argparse.ArgumentParser(description="One peer, once.")
    parser.add_argument("--input", type=Path, required=True, help="Rows, as an Arrow IPC file.")
    parser.add_argument("--dir", type=Path, required=True, help="An empty directory to store them in.")
    parser.add_argument("--postgres", default="", help="A Postgres to use, as a libpq conninfo.")
    arguments = parser.parse_args()
    with pa.OSFile(str(arguments.input)) as file:  # not mapped: the rows lie in memory before the clock runs
        rows = pa.ipc.open_file(file).read_all()
    peer = make_peer()
    peer.prepare(Place(directory=arguments.dir, postgres_dsn=arguments.postgres), rows.schema)
    cpu_before, started = _cpu_s(), time.perf_counter()
    peer.ingest(rows)
    size = fsync_tree(arguments.dir)
    seconds, cpu_s = time.perf_counter() - started, _cpu_s() - cpu_before
    found = RowDigest.of(peer.read_back(), rows.schema.names)
    answer = {"seconds": seconds, "cpu_s": cpu_s, "rows": found.rows, "digest": found.text, "disk_bytes": size}
    print(json.dumps(answer), flush=True)


def fsync_tree(directory: Path) -> int:
    """Make every file below a directory durable, as not all peers do, and return the bytes on disk."""
    size = 0
    for folder, _, names in os.walk(directory):
        for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118  # it is in the timing
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            size += os.fstat(descriptor).st_blocks * 512
            os.close(descriptor)
    return size


def with_plain_text(rows: pa.Table) -> pa.Table:
    """Decode dictionaries, for systems that do not take them."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
