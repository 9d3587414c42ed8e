"""Where a data file lies under the root: ``<dataset>/<k=v>/…/<window start>/<file id>.duckdb``.

Parts are percent-encoded byte by byte; what stays is ``[A-Za-z0-9._-]``. No part can be ``..``: a dataset's name has no
dots, and a key part has an ``=``.
"""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

import xxhash

from timestore.names import PartitionKey
from timestore.windows import TimeWindow

MAX_PART_BYTES = 200


def data_file_path(*, dataset: str, key: PartitionKey, window: TimeWindow, file_id: UUID) -> str:
    """Return the relative path of a data file."""
    key_parts = [_bounded(f"{quote(name, safe='')}={_encoded(value)}") for name, value in key.parts]
    return "/".join([quote(dataset, safe=""), *key_parts, window.path_part, f"{file_id}.duckdb"])


def _encoded(value: str) -> str:
    # `quote` keeps the tilde, which marks cut parts here.
    return quote(value, safe="").replace("~", "%7E")


def _bounded(part: str) -> str:
    """Cut a part that file systems could refuse, and add a hash so that different parts stay different."""
    if len(part) <= MAX_PART_BYTES:
        return part
    digest = xxhash.xxh3_128_hexdigest(part.encode())
    return f"{part[: MAX_PART_BYTES - len(digest) - 1]}~{digest}"
