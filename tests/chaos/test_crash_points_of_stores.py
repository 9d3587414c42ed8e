"""Whatever breaks at whatever request to an object store: one append, its rows, and no object that nobody knows.

A part of what ``make chaos ARGS="--store s3"`` does: every request that changes the store once, with faults by turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.places import DRIVERS, Buckets
from tests.chaos.site import Laboratory
from tests.chaos.steps import store_steps
from tests.chaos.store_trials import REACHED_BY, STORE_FAULTS
from tests.chaos.trials import Trial, run
from tests.fixtures.object_stores import ObjectServer

NAMES = ("store cut", "server killed", "store reset", "request cut", "server exits")
FAULTS = [fault for name in NAMES for fault in STORE_FAULTS if fault.name == name]


@contextmanager
def _laboratory(directory: Path, server: ObjectServer) -> Iterator[Laboratory]:
    places = Buckets(server)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in places.environment.items():
            patch.setenv(name, value)
        laboratory = Laboratory(directory, places)
        yield laboratory
        laboratory.close()


def _violations(directory: Path, server: ObjectServer) -> dict[str, list[str]]:
    """Let every step in the code that only such a store has meet a fault; return what did not hold."""
    turns = []
    for turn, step in enumerate(sorted(store_steps(DRIVERS[server.scheme]))):
        fault = FAULTS[turn % len(FAULTS)]
        moment = fault.moments[turn % len(fault.moments)]
        turns.append(Trial(scenario=REACHED_BY[step], step=step, moment=moment, fault=fault))
    with _laboratory(directory, server) as laboratory:
        return {str(trial): found for trial in turns if (found := run(laboratory, trial))}


@pytest.mark.timeout(600)
def test_a_fault_at_every_request_of_s3(seaweed: ObjectServer, tmp_path: Path) -> None:
    """Every request in the code that changes a bucket meets a fault, and a new one cannot be forgotten."""
    assert _violations(tmp_path, seaweed) == {}


@pytest.mark.toolchain
@pytest.mark.timeout(600)
def test_a_fault_at_every_request_of_azure(azurite: ObjectServer, tmp_path: Path) -> None:
    """Every request in the code that changes a container meets a fault, and a new one cannot be forgotten."""
    assert _violations(tmp_path, azurite) == {}
