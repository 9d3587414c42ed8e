"""How the server is at the moment of a scrape, asked of its parts: nothing is kept, and no part knows of it.

Nothing here asks Postgres or the storage, so that a scrape is answered when these are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from catalog.connections import Connections, PoolUse
from storage.read_cache import CacheUse, ReadCache
from timestore.storage_target import DEFAULT_STORAGE
from writers.fence import Fence
from writers.housekeeping import Housekeeping
from writers.ingestion import Ingestion
from writers.workshop import Workshop

Families = Iterator[CounterMetricFamily | GaugeMetricFamily]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a server that are asked."""

    ingestion: Ingestion
    shared: Workshop
    fence: Fence
    housekeeping: Housekeeping
    connections: Connections
    cache: ReadCache
    max_running_puts: int


class ServerState(Collector):
    """Collects from the parts of one server."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Families:
        yield from self._puts()
        yield from self._memory()
        yield from self._writers()
        yield from self._housekeeping()
        yield from _pools(self._parts.connections.use_now())
        yield from _cache(self._parts.cache.use_now())

    def describe(self) -> Families:
        """Name nothing in advance: the registry would ask the parts before they are there."""
        return iter(())

    def _puts(self) -> Families:
        parts = self._parts
        yield _gauge("accepting_puts", "1 while puts are accepted.", parts.ingestion.accepts_puts)
        fenced = not parts.fence.is_open(DEFAULT_STORAGE)
        yield _gauge("fenced", "1 while nothing may be committed to the default storage.", fenced)
        yield _gauge("running_puts", "Puts that run now.", parts.ingestion.gate.running)
        yield _gauge("running_puts_limit", "Puts that may run at once.", parts.max_running_puts)
        watchdog = parts.ingestion.watchdog
        yield _gauge("stalled_puts", "Puts given up whose connection still holds a thread.", watchdog.stalled_puts)
        yield _counter("expired_puts", "Puts given up because their client fell silent.", watchdog.expired_puts)

    def _memory(self) -> Families:
        budget, room = self._parts.shared.budget, self._parts.shared.room
        yield _gauge("buffered_bytes", "Memory that rows take until they are written.", budget.used_bytes)
        yield _gauge("buffered_bytes_limit", "Memory that they may take, of the memory budget.", budget.limit_bytes)
        yield _gauge("staged_bytes", "Disk for spilled rows and for files before their upload.", room.used_bytes)
        yield _gauge("staged_bytes_limit", "Disk that they may take.", room.limit_bytes)

    def _writers(self) -> Families:
        pool = self._parts.shared.pool
        writers = GaugeMetricFamily("timestore_writers", "Threads that write data files.", labels=["state"])
        busy = pool.busy
        writers.add_metric(["busy"], busy)
        writers.add_metric(["idle"], pool.threads - busy)
        yield writers
        yield _gauge("writer_jobs_waiting", "Data files that wait for a writer.", pool.waiting)
        yield _gauge(
            "uploads_pending", "Files that wait for their upload or are uploaded.", self._parts.shared.uploads.pending
        )

    def _housekeeping(self) -> Families:
        done = self._parts.housekeeping.done
        yield _counter("orphan_files", "Files found that servers left which died or gave up.", done.swept_files)
        yield _counter("deleted_files", "Files deleted, orphans included.", done.deleted_files)
        undeletable = sum(done.undeletable_files.copy().values())
        yield _gauge("undeletable_files", "Files that the last deletion could not delete.", undeletable)
        yield _gauge(
            "housekeeping_last_run_seconds",
            "Unix time at which all that was due was done; 0 before.",
            done.last_run_at or 0,
        )


def _pools(pools: list[PoolUse]) -> Families:
    states = GaugeMetricFamily("timestore_postgres_connections", "Connections to Postgres.", labels=["pool", "state"])
    limits = GaugeMetricFamily("timestore_postgres_connections_limit", "Most connections to Postgres.", labels=["pool"])
    waiting = GaugeMetricFamily("timestore_postgres_waiting", "Callers that wait for a connection.", labels=["pool"])
    requests = CounterMetricFamily("timestore_postgres_requests", "Connections asked for.", labels=["pool"])
    failures = CounterMetricFamily("timestore_postgres_failures", "Connections not had in time.", labels=["pool"])
    waited = CounterMetricFamily("timestore_postgres_wait_seconds", "Time waited for connections.", labels=["pool"])
    for pool in pools:
        states.add_metric([pool.name, "busy"], pool.busy)
        states.add_metric([pool.name, "idle"], pool.idle)
        limits.add_metric([pool.name], pool.limit)
        waiting.add_metric([pool.name], pool.waiting)
        requests.add_metric([pool.name], pool.requests)
        failures.add_metric([pool.name], pool.failures)
        waited.add_metric([pool.name], pool.waited_s)
    yield from (states, limits, waiting, requests, failures, waited)


def _cache(use: CacheUse) -> Families:
    yield _gauge("read_cache_bytes", "Disk that copies of remote files take.", use.bytes)
    yield _gauge("read_cache_used_bytes", "Of these, what reads use now.", use.pinned_bytes)
    yield _gauge("read_cache_bytes_limit", "Disk that copies may take.", use.limit_bytes)
    yield _counter("read_cache_hits", "Files that reads found in the cache.", use.hits)
    yield _counter("read_cache_misses", "Files that were fetched for reads.", use.misses)


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"timestore_{name}", help_text, value=value)


def _counter(name: str, help_text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"timestore_{name}", help_text, value=value)
