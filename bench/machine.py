"""Where a benchmark ran: figures of two machines, or of two versions, cannot be compared."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.contenders.peer import PEERS, PeerFacts
from bench.environments import ROOT

PACKAGES = ("timestore", "duckdb", "pyarrow", "psycopg", "numpy")


def describe_machine(folder: Path) -> dict[str, object]:
    """Describe processor, memory, load, and the file system that is written to."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "file_system": _file_system(folder),
        "load_before": round(os.getloadavg()[0], 2),  # of the last minute: what else was running
    }


class OtherWork:
    """What others used of the machine since this was made. Its own is what this process and its children used."""

    def __init__(self) -> None:
        self._began, self._own_s, self._all_s = time.monotonic(), _own_s(), _all_s()

    def share(self) -> float:
        """Return others' part of all cores; children that still run count as others."""
        own_s, all_s = _own_s() - self._own_s, _all_s() - self._all_s
        cores_s = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return round(max(0.0, all_s - own_s) / cores_s, 2)


def _own_s() -> float:
    return sum(os.times()[:4])  # children's and their children's too, once they have ended


def _all_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0) + getattr(times, "steal", 0))


def describe_versions(peers: Iterable[str]) -> dict[str, str | None]:
    """List what was measured, and with what; of peers, what their environments are locked to."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changes": {None: None, "": "none"}.get(_git("status", "--porcelain"), "uncommitted"),
        **{name: _locked(PEERS[name]) for name in peers},
    }


def _locked(peer: PeerFacts) -> str:
    """Name the packages that make this peer what it is: those that its requirements ask for, but Arrow and numpy."""
    stem = ROOT / "requirements" / f"bench-{peer.requirements}"
    asked = {re.split(r"[\[<>=!~ ]", line)[0] for line in _lines(stem.with_suffix(".in"))} - {"numpy", "pyarrow"}
    pinned = [line.removesuffix(" \\") for line in _lines(stem.with_suffix(".txt")) if "==" in line]
    return ", ".join(pin for pin in pinned if re.split(r"[\[=]", pin)[0] in asked)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] not in "# "]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Name the type of the file system: on a tmpfs, fsync costs nothing."""
    path = folder.resolve()
    holding = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(holding, key=lambda part: len(part.mountpoint)).fstype if holding else "unknown"


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
