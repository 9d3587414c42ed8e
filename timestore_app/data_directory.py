"""The data directory: one server owns it, and it has a version.

Layout: ``VERSION lock server.json postgres/ staging/ cache/ data/``. A foreign file in it is left alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

FORMAT_VERSION = 1

_STAGED = re.compile(r"[0-9a-f-]{36}\.(duckdb|duckdb\.wal|arrow)|probe\.duckdb")
_CACHED = re.compile(r"[0-9a-f]{32}\.duckdb(\.[0-9a-f-]{36}\.partial)?")
_DUCKDB_SPILL = re.compile(r"duckdb-\d+")


class DirectoryInUseError(Exception):
    """Another server owns the directory; ``server`` is what its ``server.json`` says."""

    def __init__(self, path: Path, server: dict[str, Any]) -> None:
        self.server = server
        owner = f" (pid {server['pid']}, {server['url']})" if server else ""
        join = f"; to run another server on its catalog, use another --data-dir and {server['join']}" if server else ""
        super().__init__(f"the data directory {path} is in use by another server{owner}{join}")


class DirectoryVersionError(Exception):
    """The directory was written by a newer version, or is not a data directory."""


class DataDirectory:
    """A data directory, owned by this process from ``open`` to ``close``."""

    def __init__(self, *, path: Path) -> None:
        self.path = path
        self.postgres = path / "postgres"
        self.staging = path / "staging"
        self.cache = path / "cache"
        self.data = path / "data"
        self._server_file = path / "server.json"
        self._lock: IO[bytes] | None = None

    def open(self) -> None:
        """Take the directory, creating it if needed; what earlier runs left in staging and cache is removed.

        Raises ``DirectoryInUseError`` or ``DirectoryVersionError``.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._check_version()
        self._server_file.unlink(missing_ok=True)  # of a server that was killed
        self._clear_staging()
        self._clear_cache()

    def close(self) -> None:
        """Let go of the directory."""
        if self._lock is not None:
            self._server_file.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def write_server_file(self, facts: dict[str, object]) -> None:
        """Tell other programs where this server is; never a secret."""
        partial = self._server_file.with_suffix(".partial")
        partial.write_text(json.dumps({"pid": os.getpid(), **facts}, indent=2) + "\n", encoding="utf-8")
        partial.replace(self._server_file)

    def _take_lock(self) -> None:
        lock = (self.path / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise DirectoryInUseError(self.path, self._read_server_file()) from None
        self._lock = lock

    def _clear_staging(self) -> None:
        """Remove what puts left that died with their server: nothing of it is in any manifest."""
        self.staging.mkdir(exist_ok=True)
        for path in self.staging.iterdir():
            if _STAGED.fullmatch(path.name):
                path.unlink()
            elif _DUCKDB_SPILL.fullmatch(path.name):
                shutil.rmtree(path)

    def _clear_cache(self) -> None:
        """Remove copies of remote files: after a crash of the machine nobody knows whether they are whole."""
        for path in self.cache.iterdir() if self.cache.is_dir() else ():
            if _CACHED.fullmatch(path.name):
                path.unlink()

    def _read_server_file(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads(self._server_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts

    def _check_version(self) -> None:
        file = self.path / "VERSION"
        if not file.exists():
            partial = file.with_suffix(".partial")
            partial.write_text(f"{FORMAT_VERSION}\n", encoding="ascii")
            partial.replace(file)
        text = file.read_text(encoding="utf-8").strip()
        if text != str(FORMAT_VERSION):
            raise DirectoryVersionError(
                f"the data directory {self.path} has version {text[:40]!r}, this program knows {FORMAT_VERSION}; "
                "use the newer program that wrote it, or another --data-dir"
            )
