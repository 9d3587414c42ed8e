"""Builds what writes: the workshop of puts, what watches over them, and what keeps house behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog

from timestore.errors import TimestoreError
from timestore.reading import TICKET_LIFETIME
from timestore.storage_target import DEFAULT_STORAGE
from timestore_app.background import start_housekeeping
from timestore_app.foundation import Foundation
from writers.admission import AdmissionGate
from writers.buffers import Budget
from writers.fence import Fence, fence_of
from writers.horizon_notes import HorizonNotes
from writers.housekeeping import Housekeeping
from writers.ingestion import Ingestion
from writers.planning import Planner
from writers.pool import WriterPool
from writers.staging_room import StagingRoom
from writers.uploads import Uploads
from writers.watchdog import Watchdog
from writers.workshop import PutLimits, Workshop

MINIMUM_WRITER_BYTES = 64 << 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingSide:
    """What the doors write with, and what the metrics ask."""

    shared: Workshop
    ingestion: Ingestion
    fence: Fence
    housekeeping: Housekeeping
    horizon: HorizonNotes


def open_writing(base: Foundation) -> WritingSide:
    """Open the writing side. The fence is looked at before anything can be committed."""
    shared = _open_workshop(base)
    watchdog = Watchdog(idle_timeout_s=base.settings.put_idle_timeout_s)
    watchdog.open()
    base.on_close("watchdog", watchdog.close)
    fence = fence_of(base.ledger, base.lifecycle, base.targets)
    _look_at_default(fence)
    housekeeping = _build_housekeeping(base, fence)
    horizon = start_housekeeping(housekeeping, base.targets, fence, base.on_close)
    ingestion = Ingestion(
        shared=shared,
        gate=AdmissionGate(max_running=base.settings.max_running_puts),
        watchdog=watchdog,
        fence=fence,
        horizon=horizon,
    )
    return WritingSide(shared=shared, ingestion=ingestion, fence=fence, housekeeping=housekeeping, horizon=horizon)


def _open_workshop(base: Foundation) -> Workshop:
    """Share out the memory budget: half for buffers, a quarter each for writing and reading."""
    settings, staging = base.settings, base.directory.staging
    buffers = settings.memory_budget // 2
    pool = _open_pool(base, memory_bytes=settings.memory_budget // 4, keep_bytes=buffers)
    room = StagingRoom(limit_bytes=settings.staging_limit)
    return Workshop(
        ledger=base.ledger,
        planner=Planner(ledger=base.ledger),
        targets=base.targets,
        budget=Budget(limit_bytes=buffers, writers=pool.threads, may_spill=room.may_spill),
        pool=pool,
        staging=staging,
        room=room,
        uploads=Uploads(threads=settings.upload_threads, timeout_s=settings.upload_timeout_s),
        limits=PutLimits(
            max_batch_bytes=settings.max_batch_bytes,
            max_windows_per_put=settings.max_windows_per_put,
            # A file is a small part of staging, whose limit one alone may pass.
            chunk_bytes=min(buffers // (4 * pool.threads), settings.staging_limit // 4),
        ),
    )


def _open_pool(base: Foundation, *, memory_bytes: int, keep_bytes: int) -> WriterPool:
    wanted = base.settings.writer_threads
    threads = min(wanted, memory_bytes // MINIMUM_WRITER_BYTES)
    if threads < wanted:
        log.warning("writers.fewer", threads=threads, reason="each needs its part of the memory budget")
    pool = WriterPool(
        threads=threads,
        memory_limit_bytes=memory_bytes // threads,
        keep_bytes=keep_bytes,
        staging=base.directory.staging,
        storage_version=base.settings.duckdb_storage_version,
    )
    base.on_close("writers", pool.close)
    pool.warm_up()
    return pool


def _build_housekeeping(base: Foundation, fence: Fence) -> Housekeeping:
    return Housekeeping(
        lifecycle=base.lifecycle,
        targets=base.targets,
        history_retention=base.settings.retention.timedelta,
        ticket_lifetime=TICKET_LIFETIME,
        lease=timedelta(seconds=base.settings.lease_s),
        fence=fence,
    )


def _look_at_default(fence: Fence) -> None:
    """Close the fence for good if the storage is another catalog's, or newer than this one; it must be reachable."""
    try:
        fence.check(DEFAULT_STORAGE)
    except TimestoreError as failure:
        if failure.kind != "fenced":
            raise
        log.warning("server.fenced", error=failure.message)
        fence.close(DEFAULT_STORAGE, failure)
