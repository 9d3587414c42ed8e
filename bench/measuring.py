"""Time, processor time and memory: how they are taken."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import psutil

Job = TypeVar("Job")
Result = TypeVar("Result")

# What one run of a contender gave, by name; the unit is the end of the name: seconds, cpu_s, rss_peak_bytes, p50_ms.
Figures = Mapping[str, float]

CORES = os.cpu_count() or 1
SAMPLE_INTERVAL_S = 0.02


class WrongResultError(Exception):
    """A contender did not do what it was timed for."""


class AbsentError(Exception):
    """A contender cannot take part here; the message says why."""


def check(held: bool, problem: str) -> None:
    """Raise ``WrongResultError`` unless what must be so is so."""
    if not held:
        raise WrongResultError(problem)


def timed_in_parallel(work: Callable[[Job], Result], jobs: Sequence[Job]) -> tuple[float, list[Result]]:
    """Do all jobs at once, a thread for each; return the seconds until the last is done, and the results."""
    with ThreadPoolExecutor(len(jobs), thread_name_prefix="bench") as threads:
        list(threads.map(lambda _: time.sleep(0.01), jobs))  # start the threads first
        started = time.perf_counter()
        results = list(threads.map(work, jobs))
        return time.perf_counter() - started, results


def own_cpu_s() -> float:
    """Return the processor seconds that this process has used so far, all threads."""
    return time.process_time()


def cpu_of_tree_s(process: psutil.Process) -> float:
    """Return the processor seconds of a process and all its descendants, those that ended included."""
    total = 0.0
    for member in (process, *process.children(recursive=True)):
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue  # its parent counts it from now on
        total += times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    return total


class PeakMemory:
    """Samples the resident memory of a process, without its children, for the time of a ``with``."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="bench-memory", daemon=True)
        self.before_bytes = self.peak_bytes = self._resident()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_INTERVAL_S):
            self.peak_bytes = max(self.peak_bytes, self._resident())

    def _resident(self) -> int:
        try:
            return int(self._process.memory_info().rss)
        except psutil.Error:
            return 0  # the server died; the put says so
