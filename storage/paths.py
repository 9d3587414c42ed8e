"""Where a data file lies under the root: ``<dataset>/<k=v>/…/<window start>/<file id>.duckdb``.

Parts are percent-encoded byte by byte; what stays is ``[A-Za-z0-9._-]``, so that no file system normalizes or forbids
it. No part can be ``..``: a dataset's name has no dots, and a key part has an ``=``. Parts and keys that are too long
are cut, and a hash keeps them apart. Where two keys share a directory, because a file system ignores case, they still
share no file: its name is unique, and the catalog knows whose it is.
"""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

import xxhash

from timestore.names import PartitionKey
from timestore.windows import TimeWindow

MAX_PART_BYTES = 200
MAX_KEY_BYTES = 640  # of a key's parts together
# Of a whole path: object stores take names of 1024 bytes, Linux paths of 4096 with the root's.
MAX_PATH_BYTES = 128 + 1 + MAX_KEY_BYTES + len("/20260101T000000Z/") + 36 + len(".duckdb")


def data_file_path(*, dataset: str, key: PartitionKey, window: TimeWindow, file_id: UUID) -> str:
    """Return the relative path of a data file."""
    return "/".join([quote(dataset, safe=""), *_key_parts(key), window.path_part, f"{file_id}.duckdb"])


def _key_parts(key: PartitionKey) -> list[str]:
    """Spell a key's parts; of a key that is too long as many as fit, and a hash of all."""
    whole = [f"{quote(name, safe='')}={_encoded(value)}" for name, value in key.parts]
    parts = [_bounded(part) for part in whole]
    if _joined_length(parts) <= MAX_KEY_BYTES:
        return parts
    digest = f"~{_hash('/'.join(whole))}"
    while _joined_length([*parts, digest]) > MAX_KEY_BYTES:
        parts.pop()
    return [*parts, digest]


def _joined_length(parts: list[str]) -> int:
    return len("/".join(parts))


def _encoded(value: str) -> str:
    # `quote` keeps the tilde, which marks cut parts here.
    return quote(value, safe="").replace("~", "%7E")


def _bounded(part: str) -> str:
    """Cut a part that file systems could refuse, and add a hash so that different parts stay different."""
    if len(part) <= MAX_PART_BYTES:
        return part
    digest = _hash(part)
    return f"{part[: MAX_PART_BYTES - len(digest) - 1]}~{digest}"


def _hash(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())
