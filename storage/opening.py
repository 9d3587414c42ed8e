"""From a storage URL to a store."""

from __future__ import annotations

import os
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from storage.local import LocalStore
from storage.store import Store
from timestore.errors import error

# Linux takes paths of 4096 bytes, and the names of data files need up to 900 (`storage.paths.MAX_PATH_BYTES`).
MAX_ROOT_BYTES = 3_000


def open_store(url: str) -> Store:
    """Return the store that a URL or a plain directory names; raises ``unsupported``."""
    try:
        filesystem, root = url_to_fs(url)
    except (ImportError, ValueError) as exc:
        raise error("unsupported", f"storage URLs with {_scheme(url)} cannot be used: {type(exc).__name__}") from exc
    if not isinstance(filesystem, LocalFileSystem):
        raise error(
            "unsupported", f"storage URLs with {_scheme(url)} are not supported yet; use a directory or file://"
        )
    if len(os.fsencode(root)) > MAX_ROOT_BYTES:
        raise error(
            "unsupported",
            f"the storage's path has {len(os.fsencode(root))} bytes, at most {MAX_ROOT_BYTES} leave room for the names "
            "of data files; use a shorter one",
        )
    return LocalStore(root=Path(root))


def _scheme(url: str) -> str:
    """Return the part of a URL that has no secrets."""
    return f"{url.split('://')[0]}://"
