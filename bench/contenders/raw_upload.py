"""The upload alone: fsspec puts finished files, several at once, and does nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.contenders import RAW_UPLOAD
from bench.load import Load
from bench.measuring import Figures, check, own_cpu_s
from bench.object_store import BUCKET


class RawUpload:
    """Uploads what a put has made of the load."""

    name = RAW_UPLOAD
    durability = "as durable as the store makes it"

    def __init__(self, *, filesystem: Any, files: Callable[[], Sequence[Path]]) -> None:
        self._filesystem = filesystem
        self._files = files

    def run(self, load: Load) -> Figures:  # noqa: ARG002  # the files are the load's
        """Upload all files, and look whether they are there."""
        files = self._files()
        folder = f"{BUCKET}/raw/{uuid4().hex}"
        targets = [f"{folder}/{path.name}" for path in files]
        cpu_before, started = own_cpu_s(), time.perf_counter()
        self._filesystem.put([str(path) for path in files], targets)
        seconds, cpu_s = time.perf_counter() - started, own_cpu_s() - cpu_before
        sizes = [self._filesystem.info(target)["size"] for target in targets]
        check(sizes == [path.stat().st_size for path in files], "the store has other files than were uploaded")
        return {"seconds": seconds, "cpu_s": cpu_s, "uploaded_bytes": float(sum(sizes))}
