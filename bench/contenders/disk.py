"""The disk alone: as many bytes as the rows have in memory, written in sequence and fsynced."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from bench.contenders import DISK
from bench.load import Load
from bench.measuring import Figures, check

BLOCK_BYTES = 8 << 20


class Disk:
    """Says whether a slow result was the disk's: wide rows of random doubles hardly compress."""

    name = DISK
    durability = "fsynced"

    def __init__(self, *, folder: Path) -> None:
        self._folder = folder
        self._block = os.urandom(BLOCK_BYTES)

    def run(self, load: Load) -> Figures:
        """Write and fsync one file."""
        with tempfile.NamedTemporaryFile(dir=self._folder) as file:
            started = time.perf_counter()
            for start in range(0, load.rows.bytes, BLOCK_BYTES):
                file.write(self._block[: load.rows.bytes - start])
            file.flush()
            os.fsync(file.fileno())
            seconds = time.perf_counter() - started
            size = Path(file.name).stat().st_size
        check(size == load.rows.bytes, f"the disk took {size:,} of {load.rows.bytes:,} bytes")
        return {"seconds": seconds}
