"""From a storage URL to a store."""

from __future__ import annotations

from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from storage.local import LocalStore
from storage.store import Store
from timestore.errors import error


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
    return LocalStore(root=Path(root))


def _scheme(url: str) -> str:
    """Return the part of a URL that has no secrets."""
    return f"{url.split('://')[0]}://"
