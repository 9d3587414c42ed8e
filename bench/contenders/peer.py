"""The other systems: one table of them, and how one of them is run."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.environments import ROOT, last_line
from bench.load import Load, Rows
from bench.measuring import AbsentError, Figures, check

TIMEOUT_S = 600.0
FSYNCED_BY_US = "fsyncs nothing itself: the harness fsyncs every file at the end, within the time"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFacts:
    """What is known of a peer before it runs."""

    name: str
    module: str  # in bench.peers
    requirements: str  # requirements/bench-NAME.txt
    durability: str


PEERS = {
    facts.name: facts
    for facts in (
        PeerFacts(
            name="DuckLake",
            module="ducklake",
            requirements="ducklake",
            durability=f"catalog: one Postgres commit; data files: {FSYNCED_BY_US}",
        ),
        PeerFacts(name="delta-rs", module="delta_rs", requirements="delta-rs", durability=FSYNCED_BY_US),
        PeerFacts(
            name="PyIceberg",
            module="iceberg",
            requirements="pyiceberg",
            durability=f"catalog: one SQLite commit; data files: {FSYNCED_BY_US}",
        ),
        PeerFacts(
            name="Postgres COPY", module="postgres_copy", requirements="postgres-copy", durability="one Postgres commit"
        ),
        PeerFacts(
            name="Parquet + manifest",
            module="parquet",
            requirements="parquet",
            durability="each file fsynced, one Postgres commit",
        ),
        PeerFacts(name="ArcticDB", module="arctic", requirements="arcticdb", durability="LMDB syncs at each commit"),
        PeerFacts(
            name="chDB", module="chdb_mergetree", requirements="chdb", durability="each part and its directory fsynced"
        ),
        PeerFacts(name="LanceDB", module="lance", requirements="lancedb", durability=FSYNCED_BY_US),
    )
}


class Peer:
    """One peer, in a new process for every run. ``postgres_cpu_s`` tells what the Postgres beside it has used."""

    def __init__(
        self,
        facts: PeerFacts,
        *,
        python: Path,
        folder: Path,
        postgres_dsn: str,
        postgres_cpu_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.name = facts.name
        self.durability = facts.durability
        self._module = f"bench.peers.{facts.module}"
        self._python = python
        self._folder = folder
        self._postgres_dsn = postgres_dsn
        self._postgres_cpu_s = postgres_cpu_s

    def run(self, load: Load) -> Figures:
        """Let it store all rows and read them back, and compare what it says with what it got."""
        cpu_before = self._postgres_cpu_s()
        with tempfile.TemporaryDirectory(dir=self._folder) as directory:
            answer = self._ask(saved(load.rows, self._folder), Path(directory))
        postgres_cpu_s = self._postgres_cpu_s() - cpu_before
        expected = load.rows.digest
        found = f"{int(answer['rows']):,} rows, digest {answer['digest']}"
        check(found == str(expected), f"{self.name} on {load.rows.shape}: read back {found}; sent {expected}")
        return {
            "seconds": float(answer["seconds"]),
            "cpu_s": float(answer["cpu_s"]) + postgres_cpu_s,
            "disk_bytes": float(answer["disk_bytes"]),
        }

    def _ask(self, rows: Path, directory: Path) -> dict[str, str | float]:
        command = [str(self._python), "-m", self._module, "--input", str(rows), "--dir", str(directory)]
        try:
            ended = subprocess.run(
                [*command, "--postgres", self._postgres_dsn],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as exc:
            raise AbsentError(f"it had not ended after {TIMEOUT_S:g} s") from exc
        if ended.returncode:
            raise AbsentError(f"it failed: {last_line(ended.stderr)}")
        answer: dict[str, str | float] = json.loads(last_line(ended.stdout))
        return answer


def saved(rows: Rows, folder: Path) -> Path:
    """Write rows once for all peers, and return the file."""
    path = folder / f"{rows.shape}-{rows.days}.arrow"
    if not path.exists():
        rows.save(path)
    return path
