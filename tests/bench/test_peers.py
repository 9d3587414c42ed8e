"""What every peer keeps to, shown with the one that needs nothing but what Timestore needs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.contenders.peer import PEERS, Peer
from bench.data import SHAPES
from bench.environments import ROOT, environment_of
from bench.load import Load, Rows
from bench.measuring import AbsentError, WrongResultError

PARQUET = PEERS["Parquet + manifest"]


@pytest.fixture(name="load")
def _load() -> Load:
    return Load(rows=Rows.make(SHAPES["dict"], 5000))


def peer_that_says(text: str, *, folder: Path, code: int = 0, complaint: str = "") -> Peer:
    """Make a peer whose Python is a script."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\necho '{complaint}' >&2\nexit {code}\n")
    python.chmod(0o755)
    return Peer(PARQUET, python=python, folder=folder, postgres_dsn="")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_peer_stores_and_reads_back(shape, postgres_dsn, tmp_path) -> None:
    """A peer run by its own Python stores the rows of every shape, and what it reads back has their digest."""
    peer = Peer(PARQUET, python=Path(sys.executable), folder=tmp_path, postgres_dsn=postgres_dsn)

    figures = peer.run(Load(rows=Rows.make(SHAPES[shape], 3000)))

    assert figures["seconds"] > 0
    assert figures["cpu_s"] > 0
    assert figures["disk_bytes"] > 10_000
    assert [path.suffix for path in tmp_path.iterdir()] == [".arrow"]  # what it stored is removed


def test_a_wrong_peer_is_caught(load, tmp_path) -> None:
    """A peer that is fast because it lost rows, or changed one, ends the run."""
    right = {"seconds": 0.001, "cpu_s": 0.001, "rows": load.rows.rows, "digest": load.rows.digest.text, "disk_bytes": 1}
    assert peer_that_says(json.dumps(right), folder=tmp_path).run(load)["seconds"] == 0.001

    for wrong in ({"rows": load.rows.rows - 1}, {"digest": "0" * 16}):
        peer = peer_that_says(json.dumps(right | wrong), folder=tmp_path)
        with pytest.raises(WrongResultError, match=r"Parquet \+ manifest on dict: read back .*; sent 5,000 rows"):
            peer.run(load)


def test_a_peer_that_fails_is_absent_with_its_reason(load, tmp_path) -> None:
    """A peer that crashes is left out, with the last line of what it said."""
    peer = peer_that_says("", folder=tmp_path, code=1, complaint="ImportError: no such thing")
    with pytest.raises(AbsentError, match="it failed: ImportError: no such thing"):
        peer.run(load)


def test_a_peer_that_cannot_be_installed_is_absent_with_the_reason(monkeypatch, tmp_path) -> None:
    """Where a peer's packages cannot be had, the installer's own reason is given."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(AbsentError, match=r"it could not be installed: .*(No matching distribution|ERROR)"):
        environment_of(PARQUET.requirements, parent=tmp_path)
    with pytest.raises(FileNotFoundError):
        environment_of("nobody", parent=tmp_path)


def test_every_peer_has_all_its_parts() -> None:
    """Each peer has a script, requirements with hashes and without host names, and says how durable it is."""
    for peer in PEERS.values():
        assert (ROOT / "bench" / "peers" / f"{peer.module}.py").is_file()
        locked = (ROOT / "requirements" / f"bench-{peer.requirements}.txt").read_text()
        assert "--hash=sha256:" in locked
        assert "://" not in locked
        assert peer.durability
    assert len({replace(peer, name="").requirements for peer in PEERS.values()}) == len(PEERS)
