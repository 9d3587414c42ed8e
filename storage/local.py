"""Data files on a local file system."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from storage.store import StoredObject
from timestore.errors import TimestoreError, error

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RIGHTS = "; let the server's user write there, then send this again"
_REMEDIES = {
    errno.EROFS: "; make it writable, then send this again",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EMFILE: "; raise the server's limit of open files (ulimit -n)",
}


class LocalStore:
    """A store in a directory. Publishing is ``link`` then ``unlink``: unlike ``rename``, it never overwrites."""

    def __init__(self, *, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._synced_directories: set[Path] = set()
        self._root_identity: tuple[int, int] | None = None  # device and inode, from the first look on

    def put(self, source: Path, path: str) -> None:
        target = self.root / path
        with _translated(path):
            self._make_directories(target.parent)
            source.chmod(0o444)
            try:
                self._link(source, target)
            except FileExistsError:
                if not os.path.samestat(source.stat(), target.stat()):
                    raise error("internal", f"another object is already at {path}") from None
            _sync_directory(target.parent)
            source.unlink()

    def put_bytes(self, content: bytes, path: str) -> bool:
        target = self.root / path
        with _translated(path):
            self._make_directories(target.parent)
            partial = target.with_name(f"{target.name}.{uuid4()}.partial")
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.chmod(0o444)
                os.link(partial, target)
            except FileExistsError:
                return False
            finally:
                partial.unlink(missing_ok=True)
            _sync_directory(target.parent)
            return True

    def open(self, path: str) -> BinaryIO:
        self._check_root()
        try:
            return (self.root / path).open("rb")
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise _translate(exc, path) from exc

    def stat(self, path: str) -> StoredObject | None:
        with _translated(path):
            try:
                return StoredObject(path=path, bytes=(self.root / path).stat().st_size)
            except FileNotFoundError:
                return None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        self._check_root()
        top = self.root / prefix.rpartition("/")[0]  # what is elsewhere need not be looked at
        if not self.root.exists() or (top != self.root and not top.is_dir()):
            return
        with _translated(prefix):
            for directory, _, names in os.walk(top, onerror=_raise):
                for name in sorted(names):
                    path = Path(directory, name).relative_to(self.root).as_posix()
                    if path.startswith(prefix) and (found := self.stat(path)) is not None:
                        yield found

    def delete(self, path: str) -> None:
        self._check_root()  # what is on a disk that is away is not gone
        with _translated(path):
            (self.root / path).unlink(missing_ok=True)

    def url(self, path: str) -> str:
        return (self.root / path).as_uri()

    def local_path(self, path: str) -> Path | None:
        return self.root / path

    def _link(self, source: Path, target: Path) -> None:
        try:
            os.link(source, target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            self._copy_across(source, target)

    def _copy_across(self, source: Path, target: Path) -> None:
        """Publish from another file system: copy beside the target first, so that it appears whole."""
        partial = target.with_name(f"{target.name}.partial")
        try:
            shutil.copyfile(source, partial)
            partial.chmod(0o444)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.link(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def _make_directories(self, directory: Path) -> None:
        """Make a directory, and fsync its entry and those of its parents once in this process, whoever made them."""
        self._check_root()
        with self._lock:
            known = directory in self._synced_directories
        if known and directory.exists():
            return
        directory.mkdir(parents=True, exist_ok=True)
        self._check_root()  # which this may have made
        for made in (directory, *directory.parents):
            _sync_directory(made.parent)
            if made == self.root:
                break
        with self._lock:
            self._synced_directories.add(directory)

    def _check_root(self) -> None:
        """Refuse another root than at the first look: where a disk was unmounted, an empty directory is left."""
        known = self._root_identity  # asked first: once it is known, the root was there
        try:
            found = self.root.stat()
        except OSError:
            identity = None
        else:
            identity = (found.st_dev, found.st_ino)
        if known is None:
            if identity is not None:
                self._root_identity = identity
        elif identity != known:
            raise error(
                "storage_unavailable",
                "the storage's directory is gone, or is another one than at the start of the server; mount its "
                "disk again, or put it back",
            )


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _raise(exc: OSError) -> None:
    raise exc


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _translate(exc, path) from exc


def _translate(exc: OSError, path: str) -> TimestoreError:
    if exc.errno in _FULL:
        return error("disk_full", "the storage's disk is full; free space there, then send this again")
    what_to_do = _REMEDIES.get(exc.errno or 0, "")
    return error("storage_unavailable", f"the storage failed at {path}: {os.strerror(exc.errno or 0)}{what_to_do}")
