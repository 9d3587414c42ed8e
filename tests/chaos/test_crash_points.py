"""Whatever breaks at whatever moment: one append, its first receipt, all its rows, and no file that nobody knows.

A part of what ``make chaos`` does: every durable step once, with faults by turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.site import Laboratory
from tests.chaos.steps import all_steps
from tests.chaos.trap import MOMENTS
from tests.chaos.trials import BACKGROUND, ELSEWHERE, FAULTS, Scenario, Trial, matrix, reached_steps, run

pytestmark = pytest.mark.timeout(900)  # the first test waits for all scenarios

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="laboratory", scope="module")
def _laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    laboratory = Laboratory(tmp_path_factory.mktemp("chaos"))
    yield laboratory
    laboratory.close()


@pytest.fixture(name="reached", scope="module")
def _reached(laboratory: Laboratory) -> dict[Scenario, set[str]]:
    return reached_steps(laboratory)


@pytest.mark.timeout(300)  # whichever test comes first goes through every scenario
def test_no_step_is_forgotten(reached: dict[Scenario, set[str]]) -> None:
    """Every call and statement in the code that changes something durable is reached by a scenario."""
    steps = set().union(*reached.values())

    assert all_steps() - steps == BACKGROUND - steps | set(ELSEWHERE)
    for test in ELSEWHERE.values():
        assert (ROOT / test).exists()


def test_a_fault_at_every_step(laboratory: Laboratory, reached: dict[Scenario, set[str]]) -> None:
    """Every durable step meets a fault, before it or after it; over all steps each fault has its turns."""
    by_step: dict[str, list[Trial]] = {}
    for trial in matrix(reached):
        if not trial.fault.slow:
            by_step.setdefault(trial.step, []).append(trial)
    turns = [trials[7 * turn % len(trials)] for turn, trials in enumerate(by_step.values())]
    assert {trial.moment for trial in turns} == set(MOMENTS)
    assert {trial.fault.name for trial in turns} == {fault.name for fault in FAULTS if not fault.slow}

    violations = {str(trial): found for trial in turns if (found := run(laboratory, trial))}

    assert violations == {}
