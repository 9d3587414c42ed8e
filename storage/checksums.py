"""Checksums of files, as the catalog and the marks of objects spell them: ``xxh3:<hex>``."""

from __future__ import annotations

from typing import BinaryIO

import xxhash

STEP_BYTES = 1 << 20


def checksum_of(stream: BinaryIO) -> str:
    """Return the checksum of what a stream has left."""
    hasher = xxhash.xxh3_128()
    while step := stream.read(STEP_BYTES):
        hasher.update(step)
    return spelled(hasher)


def spelled(hasher: xxhash.xxh3_128) -> str:
    """Spell what a hasher has come to."""
    return f"xxh3:{hasher.hexdigest()}"
