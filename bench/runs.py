"""What every contender gives: how long it took, for which rows, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

Job = TypeVar("Job")
Result = TypeVar("Result")


class WrongResultError(Exception):
    """A contender did not do what it was timed for."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Data of one shape in memory, and its size as Arrow buffers."""

    shape: str
    columns: list[str]
    batches: list[pa.RecordBatch]
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One timed run. The last three are of the server, where there is one."""

    seconds: float
    cpu_s: float | None = None
    rss_before_bytes: int | None = None
    rss_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One contender on one shape, and its timed runs, one for each round."""

    contender: str
    shape: str
    streams: int | None  # None where there are no streams
    rows: int
    bytes: int
    runs: list[Run]


def timed_in_parallel(work: Callable[[Job], Result], jobs: Sequence[Job]) -> tuple[float, list[Result]]:
    """Do all jobs at once, a thread for each; return the seconds until the last is done, and the results."""
    with ThreadPoolExecutor(len(jobs), thread_name_prefix="bench") as threads:
        list(threads.map(lambda _: time.sleep(0.01), jobs))  # start the threads first
        started = time.perf_counter()
        results = list(threads.map(work, jobs))
        return time.perf_counter() - started, results


def check(held: bool, problem: str) -> None:
    """Raise ``WrongResultError`` unless what must be so is so."""
    if not held:
        raise WrongResultError(problem)
