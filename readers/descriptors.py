"""File descriptors: DuckDB ends the whole process when it cannot open a file that it needs, so some are kept free."""

from __future__ import annotations

import os
import resource

from timestore.errors import error

NEEDED_AT_LEAST = 256  # for a server with a few clients
KEPT_FREE = 64  # connections are accepted beside us, without asking: this is what may come while a file is written
KEPT_FREE_SHARE = 16
ENOUGH = 65_536
RETRY_AFTER_S = 1.0


def allow_many_descriptors() -> None:
    """Raise this process's limit of open files as far as the system lets it; raises ``unsupported`` if that is few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < NEEDED_AT_LEAST:
        raise error(
            "unsupported",
            f"this process may open {soft} files, at least {NEEDED_AT_LEAST} are needed; raise the limit (ulimit -n)",
        )


def check_descriptors() -> None:
    """Raise ``overloaded`` when so many files and connections are open that DuckDB might not get what it needs."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return
    is_open = _count_open(limit)
    if is_open > limit - max(KEPT_FREE, limit // KEPT_FREE_SHARE):
        raise error(
            "overloaded",
            f"the server has {is_open} files and connections open, at most {limit} may be; close connections, or raise "
            "the limit (ulimit -n)",
            details={"open": is_open, "limit": limit},
            retry_after_s=RETRY_AFTER_S,
        )


def _count_open(limit: int) -> int:
    try:
        with os.scandir("/dev/fd") as descriptors:
            return sum(1 for _ in descriptors)
    except OSError:  # not even this one
        return limit
