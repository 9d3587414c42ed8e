"""Memory: what the server takes at most, whatever clients do. Each case has a new server: allocators keep memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

import timestore
from bench.contenders import TIMESTORE
from bench.data import HOSTS, SHAPES, TIMESTAMP_COLUMN, step_over_days
from bench.measuring import PeakMemory, check, timed_in_parallel
from bench.raw_put import RawPut
from bench.row_digest import RowDigest
from bench.server import Server
from bench.session import Session, in_turns
from bench.verify import read_batches

PART = "memory"
SHAPE = SHAPES["plain"]
DATASET = "memory"
CHECKED = (TIMESTAMP_COLUMN, "usage_user")  # of 20 GB, all columns would take longer to compare than to store
CYCLE_BATCHES = 8
SLACK_BYTES = 150_000_000  # beside the budget and three batches for each put

Result = TypeVar("Result")

SMALL_STREAM = "1 small stream"
LARGE_STREAM = "1 large stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """So many streams at once, of so many bytes each, in batches of so many rows, over so many windows."""

    name: str
    streams: int
    stream_bytes: float
    batch_rows: int
    windows: int = 1
    stalled: int = 0  # clients beside them that stop half-way, and stay


def measure_memory(session: Session) -> None:
    """Run every case in every round, each on a new server."""
    plan = session.plan
    session.tell(f"memory: a budget of {plan.memory_budget / (1 << 20):,.0f} MiB")
    for number in session.rounds(warm_up=False):
        in_turns(number, [partial(_measure, session, case) for case in cases_of(session)])


def cases_of(session: Session) -> list[Streams]:
    """List the cases of the plan."""
    plan = session.plan
    usual, large = SHAPE.batch_rows, plan.large_batch_rows
    small = plan.small_stream_bytes
    two_batches, two_large_batches = (2 * rows * SHAPE.bytes_per_row for rows in (usual, large))
    return [
        Streams(name=SMALL_STREAM, streams=1, stream_bytes=small, batch_rows=usual),
        Streams(name=LARGE_STREAM, streams=1, stream_bytes=plan.large_stream_bytes, batch_rows=usual),
        Streams(
            name=f"{plan.many_streams} streams",
            streams=plan.many_streams,
            stream_bytes=max(small / plan.many_streams, two_batches),
            batch_rows=usual,
        ),
        Streams(name="4 streams of large batches", streams=4, stream_bytes=two_large_batches, batch_rows=large),
        Streams(
            name=f"{plan.stream_windows} windows",
            streams=1,
            stream_bytes=small,
            batch_rows=usual,
            windows=plan.stream_windows,
        ),
        Streams(name="8 stalled clients", streams=1, stream_bytes=small, batch_rows=usual, stalled=8),
    ]


def _measure(session: Session, case: Streams) -> None:
    rows = SHAPE.rows_of(case.stream_bytes)
    data = Cycle.make(case.batch_rows, step_us=step_over_days(rows, case.windows))
    with session.server("--memory-budget", str(session.plan.memory_budget)) as server:
        with timestore.connect(server.url) as client:
            client.create_dataset(DATASET, data.schema, timestamp_column=TIMESTAMP_COLUMN, window="1d", order="ordered")
        with PeakMemory(server.process) as memory:
            stalled, _ = _all_at_once(case.stalled, lambda: _stop_half_way(server, data))
            pauses, seconds = _all_at_once(case.streams, lambda: _put(server, data, rows))
        for put in stalled:
            put.break_off()
        _check(server, data, rows, case.streams)
    figures = {
        "seconds": seconds,
        "rss_peak_bytes": float(memory.peak_bytes),
        "rss_limit_bytes": session.plan.memory_budget
        + SLACK_BYTES
        + 3.0 * data.largest_bytes * (case.streams + case.stalled),
        "longest_pause_s": max(pauses),
    }
    size = int(case.streams * rows * SHAPE.bytes_per_row)
    labels = {"case": case.name, "shape": SHAPE.name}
    session.recorder.add(PART, TIMESTORE, labels, figures, rows=case.streams * rows, size=size)


def _all_at_once(number: int, work: Callable[[], Result]) -> tuple[list[Result], float]:
    """Do the same so many times at once; return the results, and the seconds until the last."""
    if not number:
        return [], 0.0
    seconds, results = timed_in_parallel(lambda _: work(), range(number))
    return results, seconds


def _put(server: Server, data: Cycle, rows: int) -> float:
    put = RawPut(server.url, DATASET, data.schema)
    for batch in data.batches(rows):
        put.send(batch)
    put.finish()
    return put.longest_pause_s


def _stop_half_way(server: Server, data: Cycle) -> RawPut:
    put = RawPut(server.url, DATASET, data.schema)
    for batch in data.parts[: max(1, len(data.parts) // 2)]:
        put.send(batch)
    return put


def _check(server: Server, data: Cycle, rows: int, streams: int) -> None:
    """Compare what the finished streams, all alike, have stored; the stalled ones have nothing."""
    columns = list(CHECKED)
    expected = RowDigest.of(data.batches(rows), columns).times(streams)
    found = RowDigest.of(read_batches(server.url, DATASET, CHECKED), columns)
    check(found == expected, f"memory: read back {found}; sent {expected}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """A few batches from which a stream of any length is made: the same again and again, later each time."""

    parts: list[pa.RecordBatch]
    step_us: int

    @classmethod
    def make(cls, batch_rows: int, *, step_us: int) -> Cycle:
        """Make batches of so many rows."""
        rows = max(batch_rows, CYCLE_BATCHES * SHAPE.batch_rows)
        table = pa.Table.from_batches(SHAPE.batches(rows, step_us=step_us)).combine_chunks()
        return cls(parts=table.to_batches(max_chunksize=batch_rows), step_us=step_us)

    @property
    def schema(self) -> pa.Schema:
        return self.parts[0].schema

    @property
    def largest_bytes(self) -> int:
        return max(int(batch.nbytes) for batch in self.parts)

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Stream so many rows, in order of time."""
        span_us = sum(batch.num_rows for batch in self.parts) // HOSTS * self.step_us
        left = rows
        for number in count():
            for batch in self.parts:
                if not left:
                    return
                part = batch.slice(0, left)
                left -= part.num_rows
                yield _later(part, number * span_us)


def _later(batch: pa.RecordBatch, shift_us: int) -> pa.RecordBatch:
    place = batch.schema.get_field_index(TIMESTAMP_COLUMN)
    shifted = pc.add(batch.column(place), pa.scalar(shift_us, pa.duration("us")))
    return batch.set_column(place, batch.schema.field(place), shifted)
