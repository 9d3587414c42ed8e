"""The names that the embedded Postgres owns in its directory. It touches no others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STAGING_PREFIX = "initdb-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The paths below ``directory``, which is absolute; besides them only ``initdb-*``, a cluster in the making."""

    directory: Path

    @property
    def cluster(self) -> Path:
        """PGDATA; complete whenever it exists."""
        return self.directory / "cluster"

    @property
    def passfile(self) -> Path:
        """The password of the superuser, in libpq's format, 0600."""
        return self.directory / "passfile"

    def read_password(self) -> str:
        """Return the password that the passfile has."""
        return self.passfile.read_text(encoding="utf-8").strip().rsplit(":", 1)[1]

    @property
    def log(self) -> Path:
        """What initdb and Postgres print; bounded."""
        return self.directory / "log"

    @property
    def lock(self) -> Path:
        """Locked by every process of a running Postgres, see ``cluster_lock``."""
        return self.directory / "lock"

    @property
    def pid_file(self) -> Path:
        """Postgres' own, see ``pid_file``."""
        return self.cluster / "postmaster.pid"
