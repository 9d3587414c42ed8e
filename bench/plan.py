"""How much is measured: `make bench` is quick, `make bench-full` is everything."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contenders.peer import PEERS
from bench.data import SHAPES, step_over_days

GB = 1_000_000_000
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does."""

    parts: tuple[str, ...] = ("bulk", "disorder", "flat", "memory", "start", "puts", "store")
    repeats: int = 5
    serve_arguments: tuple[str, ...] = ()
    # bulk
    shapes: tuple[str, ...]
    peers: tuple[str, ...]
    loads: tuple[tuple[int, int], ...]  # streams, and windows of a day
    bulk_bytes: int  # of Arrow data in a put
    # disorder: 5 000 rows in each of the many windows, whatever the plan
    disorder_bytes: int
    random_windows: int = 28
    many_windows: int
    # flat
    few_files: int = 100
    many_files: int = 100_000
    commits: int  # in a round
    # memory
    memory_budget: int
    small_stream_bytes: int
    large_stream_bytes: int
    many_streams: int = 64
    stream_windows: int = 200
    large_batch_rows: int
    # store: as much data as in a bulk put
    line_bytes_per_s: int = 20_000_000
    # puts
    lone_puts: int  # in a round
    clients: int = 32


def check_plan(plan: Plan) -> None:
    """Raise ``ValueError`` if there is not enough data for the windows that it is to fill."""
    if "bulk" in plan.parts:
        for shape in plan.shapes:
            for _, windows in plan.loads:
                step_over_days(SHAPES[shape].rows_of(plan.bulk_bytes), windows)
    if "memory" in plan.parts:
        step_over_days(SHAPES["plain"].rows_of(plan.small_stream_bytes), plan.stream_windows)
    if "store" in plan.parts:
        step_over_days(SHAPES["plain"].rows_of(plan.bulk_bytes), 1)
    if "disorder" in plan.parts:
        step_over_days(SHAPES["plain"].rows_of(plan.disorder_bytes), max(plan.random_windows, plan.many_windows))


QUICK = Plan(
    shapes=("plain", "narrow"),
    peers=("DuckLake", "delta-rs", "Parquet + manifest"),
    loads=((1, 1), (4, 1), (1, 28)),
    bulk_bytes=300_000_000,
    disorder_bytes=150_000_000,
    many_windows=150,
    commits=50,
    memory_budget=256 * MIB,
    small_stream_bytes=GB // 2,
    large_stream_bytes=GB,
    large_batch_rows=1 << 18,
    lone_puts=50,
)
FULL = Plan(
    shapes=tuple(SHAPES),
    peers=tuple(PEERS),
    loads=tuple((streams, days) for days in (1, 28) for streams in (1, 2, 4, 16)),
    bulk_bytes=300_000_000,
    disorder_bytes=GB,
    many_windows=1_000,
    commits=200,
    memory_budget=512 * MIB,
    small_stream_bytes=GB,
    large_stream_bytes=20 * GB,
    large_batch_rows=1 << 20,
    lone_puts=200,
)
