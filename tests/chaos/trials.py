"""Trials: one fault at one moment of one durable step, in the scenario that reaches it; then everything is checked."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.scenes import (
    adopt,
    adopt_again,
    change_storage,
    change_storage_again,
    is_purged,
    is_swept,
    keep_house,
    killed_when_published,
    killed_when_staged,
    launch,
    make_a_token,
    nothing,
    revoke,
    running,
    running_new,
    stopped,
    terminate,
    with_another,
    with_dropped,
    with_expired,
    with_moved_storage,
)
from tests.chaos.site import Laboratory, Site, outcome
from tests.chaos.steps import call_steps, statement_steps
from tests.chaos.trap import MOMENTS
from tests.fixtures.server import wait_until

REQUESTS = ("s3 ", "azure ")  # so begin the names of requests to object stores
STEP_TIMEOUT_S = 120  # for what takes seconds on a quiet machine
SILENCE_S = 12  # longer than the TCP timeout of catalog connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What happens while the trap is set: a process that ends by itself unless a fault ends it."""

    name: str
    prepare: Callable[[Site], None]
    begin: Callable[[Site], subprocess.Popen[bytes]]
    had_before: bool = True  # whether an append was there before
    process: str = "client"  # or a command, or a server that "starts", "stops" or "works"
    repeat: Callable[[Site], None] = lambda _: None  # what an operator does again after a fault
    is_done: Callable[[Site], bool] = lambda _: False  # of a server that works
    across_disks: bool = False
    only: frozenset[str] | None = None  # the steps that make it another than those before it; None: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong at a step."""

    name: str
    strike: Callable[[Laboratory, Site, Trial, subprocess.Popen[bytes]], None]
    action: str = "wait"  # what the trap does
    needs_client: bool = False
    needs_statement: bool = False  # only where something is said to the catalog
    needs_request: bool = False  # only where something is said to an object store
    moments: tuple[str, ...] = MOMENTS
    slow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One cell of the matrix."""

    scenario: Scenario
    step: str
    moment: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.scenario.name}: {self.fault.name}, {self.moment} {self.step}"


class NotReachedError(AssertionError):
    """The scenario ended without coming to the step."""


def run(laboratory: Laboratory, trial: Trial) -> list[str]:
    """Run one trial and return what did not hold."""
    with laboratory.site(across_disks=trial.scenario.across_disks) as site:
        trial.scenario.prepare(site)
        site.trap.lay(trial.step, trial.moment, trial.fault.action)
        process = site.watched(trial.scenario.begin(site))
        _wait(trial, site, lambda: site.trap.has_sprung() or _is_over(trial.scenario, site, process))
        if not site.trap.has_sprung():
            raise NotReachedError(f"{trial}: the log ends {_log_end(site)}")
        trial.fault.strike(laboratory, site, trial, process)
        site.trap.take_away()
        laboratory.heal()
        _wait(trial, site, lambda: _is_over(trial.scenario, site, process) or trial.scenario.is_done(site))
        told = outcome(process) if trial.scenario.process == "client" else None
        trial.scenario.repeat(site)
        site.heal()
        return site.violations(told, had_before=trial.scenario.had_before)


def _wait(trial: Trial, site: Site, condition: Callable[[], bool]) -> None:
    try:
        wait_until(condition, timeout_s=STEP_TIMEOUT_S)
    except AssertionError as exc:
        raise AssertionError(f"{trial}: it goes on for ever; the log ends {_log_end(site)}") from exc


def _log_end(site: Site) -> str:
    return site.server.log.read_text()[-2000:]


def steps_of(laboratory: Laboratory, scenario: Scenario) -> set[str]:
    """Run a scenario without a fault and return the steps that it comes through."""
    with laboratory.site(across_disks=scenario.across_disks) as site:
        scenario.prepare(site)
        site.trap.record()
        process = site.watched(scenario.begin(site))
        wait_until(lambda: _is_over(scenario, site, process) or scenario.is_done(site), timeout_s=STEP_TIMEOUT_S)
        return site.trap.recorded()


def _is_over(scenario: Scenario, site: Site, process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has come through all its steps. One that works never ends by itself."""
    return process.poll() is not None or (scenario.process == "starts" and site.server.answers())


def reached_steps(laboratory: Laboratory, scenarios: Sequence[Scenario] | None = None) -> dict[Scenario, set[str]]:
    """Run every scenario without a fault and return the steps of each."""
    return {scenario: steps_of(laboratory, scenario) for scenario in scenarios or SCENARIOS}


def matrix(reached: Mapping[Scenario, set[str]], faults: Sequence[Fault] | None = None) -> Iterator[Trial]:
    """Generate every trial there is, from the steps that scenarios come through."""
    statements = statement_steps()
    for scenario, steps in reached.items():
        chosen = steps & scenario.only if scenario.only else steps
        for step in sorted(chosen - BACKGROUND - (AFTER_THE_START if scenario.process == "starts" else set())):
            for fault in faults or FAULTS:
                if fault.needs_client and scenario.process != "client":
                    continue
                if fault.needs_statement and step not in statements:
                    continue
                if fault.needs_request and not step.startswith(REQUESTS):
                    continue
                for moment in fault.moments:
                    yield Trial(scenario=scenario, step=step, moment=moment, fault=fault)


TOKEN_STEPS = ("catalog create_token", "catalog revoke_token")

SCENARIOS = (
    Scenario(name="first start", prepare=nothing, begin=launch, had_before=False, process="starts"),
    Scenario(
        name="start after a kill",
        prepare=killed_when_staged,
        begin=launch,
        process="starts",
        only=frozenset({"timestore_app.data_directory:DataDirectory._clear_staging Path.unlink"}),
    ),
    Scenario(
        name="first put",
        prepare=running_new,
        begin=lambda site: site.send("good"),
        had_before=False,
        only=frozenset({"catalog commit_appends", "catalog record_intents"}),
    ),
    Scenario(name="put", prepare=running, begin=lambda site: site.send("good")),
    Scenario(
        name="put to another disk",
        prepare=running,
        begin=lambda site: site.send("good"),
        across_disks=True,
        only=frozenset(step for step in call_steps() if "_copy_across" in step),
    ),
    Scenario(name="refused put", prepare=running, begin=lambda site: site.send("unordered")),
    Scenario(name="abandon", prepare=running, begin=lambda site: site.send("abandon")),
    Scenario(name="retention", prepare=with_another, begin=lambda site: site.send("retention")),
    Scenario(name="expire", prepare=with_another, begin=lambda site: site.send("expire")),
    Scenario(name="drop", prepare=with_another, begin=lambda site: site.send("drop")),
    Scenario(name="purge expired", prepare=with_expired, begin=keep_house, process="works", is_done=is_purged),
    Scenario(name="purge dropped", prepare=with_dropped, begin=keep_house, process="works", is_done=is_purged),
    Scenario(name="sweep", prepare=killed_when_published, begin=keep_house, process="works", is_done=is_swept),
    Scenario(name="adopt", prepare=stopped, begin=adopt, process="command", repeat=adopt_again),
    Scenario(
        name="add storage",
        prepare=running,
        begin=lambda site: site.send("add"),
        only=frozenset({"catalog add_storage_target"}),
    ),
    Scenario(
        name="change storage",
        prepare=with_moved_storage,
        begin=change_storage,
        process="command",
        repeat=change_storage_again,
        only=frozenset({"catalog change_storage_target"}),
    ),
    Scenario(name="token", prepare=running, begin=make_a_token, process="command", only=frozenset(TOKEN_STEPS)),
    Scenario(name="revoke", prepare=running, begin=revoke, process="command", only=frozenset(TOKEN_STEPS)),
    Scenario(name="stop", prepare=running, begin=terminate, process="stops"),
)


def _kill_server(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    """Kill the server, or the command that works in its place."""
    server = site.server.process
    victim = server if server is not None and server.poll() is None else process
    victim.kill()
    victim.wait()


def _wait_for_exit(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: any(each is not None and each.poll() is not None for each in (site.server.process, process)))


def _kill_postgres(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    laboratory.kill_postgres()


def _kill_client(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    process.kill()


def _cut(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    laboratory.proxy.cut_all()


def _reset(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    laboratory.proxy.cut_all(reset=True)


def _lose_the_answer(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    """Let the statement reach Postgres, and its answer nobody."""
    beginning = statement_steps()[trial.step].partition("%")[0].strip()[:60]
    laboratory.proxy.cut_once(beginning.encode(), answer=True)


def _silence(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    laboratory.proxy.fall_silent()
    site.trap.take_away()
    time.sleep(SILENCE_S)


FAULTS = (
    Fault(name="server exits", strike=_wait_for_exit, action="exit"),
    Fault(name="server killed", strike=_kill_server),
    Fault(name="client killed", strike=_kill_client, needs_client=True),
    Fault(name="Postgres killed", strike=_kill_postgres),
    Fault(name="connections cut", strike=_cut, needs_statement=True),
    Fault(name="connections reset", strike=_reset, needs_statement=True),
    Fault(name="answer lost", strike=_lose_the_answer, needs_statement=True, moments=("before",)),
    Fault(name="silence", strike=_silence, needs_statement=True, slow=True),
)

# Reached by threads that no scenario drives.
BACKGROUND = frozenset({"catalog renew_lease"})
# Reached soon after a server answers, which is when a scenario of starting ends. Others come through it for sure.
AFTER_THE_START = frozenset({"catalog raise_horizon"})
# Steps that only a failure from outside, or another storage, brings about, with the test that does.
ELSEWHERE = {
    "storage.objects:ObjectStore.put Path.unlink": "tests/chaos/test_crash_points_of_stores.py",
    "writers.data_file:DuckDBWriter.write Path.unlink": "tests/writers/test_data_file.py",
    # Copies of remote files, which nothing durable depends on.
    "storage.fetching:fetch Path.rename": "tests/storage/test_read_cache.py",
    "storage.fetching:fetch Path.unlink": "tests/storage/test_read_cache.py",
    "storage.read_cache:ReadCache._remove Path.unlink": "tests/storage/test_read_cache.py",
    "timestore_app.data_directory:DataDirectory._clear_cache Path.unlink": "tests/storage/test_read_cache.py",
}
