"""From a storage URL to a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from fsspec.core import url_to_fs

from storage.bucket import Bucket
from storage.local import LocalStore
from storage.location import Location
from storage.objects import DEADLINE_S, PAGE_SIZE, ObjectStore
from storage.store import Store
from timestore.errors import error

# Linux takes paths of 4096 bytes, and the names of data files need up to 900 (`storage.paths.MAX_PATH_BYTES`).
MAX_ROOT_BYTES = 3_000
# Which module opens a scheme's buckets, and which extra brings its driver. Drivers are heavy: only that one is loaded.
_BUCKETS = {
    "s3": ("storage.s3", "s3"),
    "abfs": ("storage.azure", "azure"),
    "abfss": ("storage.azure", "azure"),
    "az": ("storage.azure", "azure"),
    "gs": ("storage.gcs", "gcs"),
    "gcs": ("storage.gcs", "gcs"),
}
_DIRECTORIES = ("file", "local")


class _BucketModule(Protocol):
    def open_bucket(self, location: Location, options: Mapping[str, str]) -> Bucket: ...


def open_store(url: str, options: Mapping[str, str] | None = None) -> Store:
    """Return the store that a URL or a plain directory names, without asking it anything; raises ``unsupported``.

    ``options`` are of the store's kind, and no secrets: credentials come from where the store's other tools take them.
    """
    scheme = url.partition("://")[0] if "://" in url else "file"
    if scheme in _DIRECTORIES:
        return _open_directory(url, options or {})
    if scheme not in _BUCKETS:
        supported = ", ".join(f"{each}://" for each in ("file", *_BUCKETS))
        raise error("unsupported", f"storage URLs with {scheme}:// are not supported; use a directory or {supported}")
    return open_object_store(url, options or {})


def open_object_store(
    url: str, options: Mapping[str, str], *, deadline_s: float = DEADLINE_S, page_size: int = PAGE_SIZE
) -> ObjectStore:
    """Return the object store that a URL of a known scheme names; raises ``unsupported``."""
    location = Location.parse(url)
    scheme = location.scheme
    module_name, extra = _BUCKETS[scheme]
    try:
        module = cast(_BucketModule, import_module(module_name))
    except ImportError as exc:
        raise error(
            "unsupported",
            f"storage URLs with {scheme}:// need a driver that is not installed ({exc.name}): "
            f"pip install 'timestore[server,{extra}]'",
        ) from exc
    bucket = module.open_bucket(location, options)
    return ObjectStore(location=location, bucket=bucket, deadline_s=deadline_s, page_size=page_size)


def _open_directory(url: str, options: Mapping[str, str]) -> Store:
    if options:
        raise error("unsupported", f"a directory has no storage options, and {', '.join(sorted(options))} was given")
    _, root = url_to_fs(url)
    if len(os.fsencode(root)) > MAX_ROOT_BYTES:
        raise error(
            "unsupported",
            f"the storage's path has {len(os.fsencode(root))} bytes, at most {MAX_ROOT_BYTES} leave room for the names "
            "of data files; use a shorter one",
        )
    return LocalStore(root=Path(root))
