"""One file brought from a store to this machine: whole and verified, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from uuid import uuid4

import structlog
import xxhash

from storage.checksums import STEP_BYTES, spelled
from storage.local_files import FileToRead, MissingFileError
from storage.store import Store
from storage.targets import about_target
from timestore.errors import TimestoreError, error

ATTEMPTS = 2  # of a file whose bytes arrive damaged

log = structlog.get_logger()


def fetch(store: Store, file: FileToRead, target: Path, *, stop: Event) -> str:
    """Copy a file beside its target, verify it, and let it appear; return its checksum. Holds a step of it in memory.

    Raises ``storage_unavailable`` (``MissingFileError``, if it is not there), ``disk_full``, or ``shutting_down`` once
    ``stop`` is set.
    """
    partial = target.with_name(f"{target.name}.{uuid4()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)  # only now: many servers never fetch anything
        for _ in range(ATTEMPTS):
            size, checksum = _copy(_steps(store, file, stop), partial)
            if size == file.bytes and file.checksum in (None, checksum):
                partial.rename(target)
                return checksum
            log.warning("fetch.damaged", path=file.path, bytes=size, checksum=checksum)
        raise error(
            "storage_unavailable",
            f"the data file {_name(file.path)} arrives damaged: {size} bytes with the checksum {checksum}, not "
            f"{file.bytes} with {file.checksum or 'any'}; see what timestore fsck --deep says",
        )
    except OSError as exc:
        raise _translate(exc, target.parent) from exc
    finally:
        partial.unlink(missing_ok=True)


def _copy(steps: Iterator[bytes], target: Path) -> tuple[int, str]:
    """Write what comes; return how many bytes that was, and their checksum."""
    hasher = xxhash.xxh3_128()
    size = 0
    with target.open("wb") as copy:
        for step in steps:
            copy.write(step)
            hasher.update(step)
            size += len(step)
    return size, spelled(hasher)


def _steps(store: Store, file: FileToRead, stop: Event) -> Iterator[bytes]:
    """Yield a stored file piece by piece. What goes wrong here is the store's fault, not that of our disk."""
    path = file.path
    try:
        _check(stop)
        with about_target(file.storage), store.open(path) as stream:
            while step := stream.read(STEP_BYTES):
                _check(stop)
                yield step
    except FileNotFoundError as exc:
        raise MissingFileError(path) from exc
    except OSError as exc:
        raise error(
            "storage_unavailable", f"fetching the data file {_name(path)} failed: {type(exc).__name__}; try again"
        ) from exc


def _check(stop: Event) -> None:
    if stop.is_set():
        raise error("shutting_down", "the server is stopping")


def _translate(exc: OSError, directory: Path) -> TimestoreError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return error(
            "disk_full", "the disk of the server's read cache is full; free space there, or lower read_cache, and retry"
        )
    log.warning("read_cache.failed", directory=str(directory), error=str(exc))
    return error("storage_unavailable", f"the server's read cache cannot be written: {os.strerror(exc.errno or 0)}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]
