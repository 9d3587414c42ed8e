"""What all puts of a server share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catalog.ledger import Ledger
from storage.targets import Targets
from writers.buffers import Budget
from writers.planning import Planner
from writers.pool import WriterPool
from writers.staging_room import StagingRoom
from writers.uploads import Uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class PutLimits:
    """What one put may ask of the server."""

    max_batch_bytes: int
    max_windows_per_put: int
    chunk_bytes: int  # a data file is written when so much has been gathered for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all puts of a server share."""

    ledger: Ledger
    planner: Planner
    targets: Targets
    budget: Budget
    pool: WriterPool
    staging: Path
    room: StagingRoom
    uploads: Uploads
    limits: PutLimits
