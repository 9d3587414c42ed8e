"""What this machine, or the container around the server, offers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from platformdirs import user_data_path

SMALLEST_CACHE = 64 << 20
LARGEST_DEFAULT_CACHE = 10 << 30
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_memory_bytes() -> int:
    """Return the physical memory, or the cgroup's limit where that is lower."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *(limit for path in _CGROUP_LIMITS if (limit := _read_limit(Path(path))))])


def default_cache_bytes(directory: Path) -> int:
    """Return a tenth of what is free on a directory's disk, within bounds."""
    return min(max(shutil.disk_usage(directory).free // 10, SMALLEST_CACHE), LARGEST_DEFAULT_CACHE)


def default_data_dir() -> Path:
    """Return the user's own data directory for this program."""
    return user_data_path("timestore", appauthor=False)


def _read_limit(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
