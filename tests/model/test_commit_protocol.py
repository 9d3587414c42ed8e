"""The commit protocol, searched whole: every interleaving of a few puts, retries, failures and sweeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.guards import EVERY_GUARD, PLACES, Guard
from tests.model.search import explore
from tests.model.state import World
from tests.model.worlds import ONE_PUT, SHOWN_IN, WORLDS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_the_protocol_holds(world: World) -> None:
    """With all guards, no interleaving breaks an invariant, nor leaves anything over at its end."""
    explored = explore(world, EVERY_GUARD)

    assert explored.violation is None, str(explored.violation)
    assert explored.states > 500  # so much can happen in the smallest


@pytest.mark.parametrize("guard", Guard, ids=lambda guard: guard.name.lower())
def test_no_guard_is_idle(guard: Guard) -> None:
    """Without any one of the guards, some interleaving breaks an invariant; the shortest one is printed."""
    explored = explore(SHOWN_IN.get(guard, ONE_PUT), EVERY_GUARD - {guard})

    assert explored.violation is not None, f"it makes no difference whether {guard}: the model or the guard is wrong"
    print(f"Without the guard that {guard}: {explored.violation}")  # noqa: T201  # `pytest -s` shows the traces


@pytest.mark.parametrize("guard", PLACES, ids=lambda guard: guard.name.lower())
def test_a_guard_is_where_it_is_said_to_be(guard: Guard) -> None:
    """The code has the words that keep the guard: who changes them looks at the model as well."""
    place = PLACES[guard]

    assert place.words in (ROOT / place.file).read_text(encoding="utf-8")
