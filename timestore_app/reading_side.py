"""Builds what reads: the pool of readers, the cache of remote files, and queries in SQL."""

from __future__ import annotations

import os
from dataclasses import dataclass

import structlog

from readers.file_reader import ReaderPool
from readers.reads import Reads
from readers.sql import SqlQueries
from storage.read_cache import ReadCache
from storage.target_files import TargetFiles
from timestore_app.foundation import Foundation
from timestore_app.machine import default_cache_bytes

READERS = 8
SQL_QUERIES = 2
MINIMUM_SQL_BYTES = 128 << 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingSide:
    """What the doors read with, and the cache that the metrics ask."""

    reads: Reads
    queries: SqlQueries
    cache: ReadCache


def open_reading(base: Foundation) -> ReadingSide:
    """Open the readers, which have a quarter of the memory budget, and the cache."""
    readers = ReaderPool(readers=READERS, memory_limit_bytes=base.settings.memory_budget // 4 // READERS)
    base.on_close("readers", readers.close)
    cache = _open_cache(base, readers)
    files = TargetFiles(targets=base.targets, cache=cache)
    return ReadingSide(
        reads=Reads(manifests=base.manifests, files=files, pool=readers),
        queries=_build_sql(base, files),
        cache=cache,
    )


def _open_cache(base: Foundation, readers: ReaderPool) -> ReadCache:
    """Open the cache of files that are not on this machine."""
    limit_bytes = base.settings.read_cache or default_cache_bytes(base.directory.path)
    cache = ReadCache(
        targets=base.targets,
        directory=base.directory.cache,
        limit_bytes=limit_bytes,
        make_room=readers.revoke_stalled,
    )
    base.on_close("read cache", cache.close)
    cache.open()
    log.info("read_cache.opened", bytes=limit_bytes)
    return cache


def _build_sql(base: Foundation, files: TargetFiles) -> SqlQueries:
    """Bound queries: their processes take memory beside the budget, but no more than it allows."""
    return SqlQueries(
        manifests=base.manifests,
        files=files,
        running=SQL_QUERIES,
        memory_limit_bytes=max(base.settings.memory_budget // 8 // SQL_QUERIES, MINIMUM_SQL_BYTES),
        threads=max(1, (os.cpu_count() or 1) // SQL_QUERIES),
    )
