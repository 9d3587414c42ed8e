"""Breadth-first search through every interleaving: the first violation found has a shortest trace."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.model.guards import Guard
from tests.model.invariants import broken_at_the_end, broken_now
from tests.model.protocol import Protocol
from tests.model.state import State, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that does not hold, and how to get there."""

    world: str
    invariant: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        steps = "\n".join(f"  {number:2}. {step}" for number, step in enumerate(self.trace, 1))
        return f"in the world '{self.world}', {self.invariant}:\n{steps}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """What a search saw: every state there is, or those up to the first violation."""

    states: int
    violation: Violation | None


def explore(world: World, guards: frozenset[Guard]) -> Explored:
    """Search a world whose processes follow these guards and no others."""
    protocol = Protocol(world=world, guards=guards)
    start = world.start()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    frontier = deque([start])
    while frontier:
        state = frontier.popleft()
        at_end = True
        for step, after in protocol.steps(state):
            at_end = False
            if after not in came_from:
                came_from[after] = (state, step)
                if broken := broken_now(world, after):
                    return _found(world, broken, after, came_from)
                frontier.append(after)
        if at_end and (broken := broken_at_the_end(state)):
            return _found(world, broken, state, came_from)
    return Explored(states=len(came_from), violation=None)


def _found(world: World, invariant: str, state: State, came_from: dict[State, tuple[State, str] | None]) -> Explored:
    trace: list[str] = []
    at = came_from[state]
    while at is not None:
        before, step = at
        trace.append(step)
        at = came_from[before]
    violation = Violation(world=world.name, invariant=invariant, trace=tuple(reversed(trace)))
    return Explored(states=len(came_from), violation=violation)
