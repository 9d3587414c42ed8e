"""Trials: one fault at one moment of one durable step, in the scenario that reaches it; then everything is checked."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.site import Laboratory, Site, outcome
from tests.chaos.steps import call_steps, statement_steps
from tests.chaos.trap import MOMENTS
from tests.fixtures.server import wait_until

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
        wait_until(lambda: site.trap.has_sprung() or _is_over(trial.scenario, site, process), timeout_s=60)
        if not site.trap.has_sprung():
            raise NotReachedError(f"{trial}: the log ends {site.server.log.read_text()[-2000:]}")
        trial.fault.strike(laboratory, site, trial, process)
        site.trap.take_away()
        laboratory.heal()
        wait_until(lambda: _is_over(trial.scenario, site, process) or trial.scenario.is_done(site), timeout_s=60)
        told = outcome(process) if trial.scenario.process == "client" else None
        trial.scenario.repeat(site)
        site.heal()
        return site.violations(told, had_before=trial.scenario.had_before)


def steps_of(laboratory: Laboratory, scenario: Scenario) -> set[str]:
    """Run a scenario without a fault and return the steps that it comes through."""
    with laboratory.site(across_disks=scenario.across_disks) as site:
        scenario.prepare(site)
        site.trap.record()
        process = site.watched(scenario.begin(site))
        wait_until(lambda: _is_over(scenario, site, process) or scenario.is_done(site), timeout_s=60)
        return site.trap.recorded()


def _is_over(scenario: Scenario, site: Site, process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has come through all its steps. One that works never ends by itself."""
    return process.poll() is not None or (scenario.process == "starts" and site.server.answers())


def reached_steps(laboratory: Laboratory) -> dict[Scenario, set[str]]:
    """Run every scenario without a fault and return the steps of each."""
    return {scenario: steps_of(laboratory, scenario) for scenario in SCENARIOS}


def matrix(reached: Mapping[Scenario, set[str]]) -> Iterator[Trial]:
    """Generate every trial there is, from the steps that scenarios come through."""
    statements = statement_steps()
    for scenario, steps in reached.items():
        chosen = steps & scenario.only if scenario.only else steps
        for step in sorted(chosen - BACKGROUND - (AFTER_THE_START if scenario.process == "starts" else set())):
            for fault in FAULTS:
                if fault.needs_client and scenario.process != "client":
                    continue
                if fault.needs_statement and step not in statements:
                    continue
                for moment in fault.moments:
                    yield Trial(scenario=scenario, step=step, moment=moment, fault=fault)


def _nothing(_: Site) -> None:
    """Begin on an empty directory."""


def _running(site: Site) -> None:
    site.server.start()
    site.append_before()


def _running_new(site: Site) -> None:
    site.server.start()


def _killed_when_staged(site: Site) -> None:
    _killed_in_a_put(site, "writers.data_file:_fsync_and_hash os.fsync")


def _killed_when_published(site: Site) -> None:
    _killed_in_a_put(site, "storage.local:LocalStore._link os.link")
    site.server.start()


def _killed_in_a_put(site: Site, step: str) -> None:
    """Leave what a server leaves that was killed after a step of a put."""
    _running(site)
    site.trap.lay(step, "after", "wait")
    client = site.watched(site.send("good"))
    wait_until(site.trap.has_sprung, timeout_s=60)
    site.server.kill()
    client.communicate()


def _with_another(site: Site) -> None:
    _running(site)
    site.append_other()


def _with_expired(site: Site) -> None:
    _running(site)
    site.append_other(expire=True)


def _with_dropped(site: Site) -> None:
    _running(site)
    site.append_other(drop=True)


def _keep_house(site: Site) -> subprocess.Popen[bytes]:
    site.trap.hasten()
    assert site.server.process is not None
    return site.server.process


def _is_purged(site: Site) -> bool:
    return not any(site.storage.glob("other/**/*.duckdb")) and not site.paths_in("condemned_files")


def _is_swept(site: Site) -> bool:
    return not site.paths_in("intents") and not site.paths_in("condemned_files", "deleted_at IS NULL")


def _launch(site: Site) -> subprocess.Popen[bytes]:
    site.server.launch()
    assert site.server.process is not None
    return site.server.process


def _stopped(site: Site) -> None:
    _running(site)
    assert site.server.terminate() == 0


def _adopt(site: Site) -> subprocess.Popen[bytes]:
    return site.command("rebuild", "--adopt")


def _adopt_again(site: Site) -> None:
    """Repeat it until it works: a command that was killed counts as running until its lease is over."""
    wait_until(lambda: site.watched(_adopt(site)).wait(timeout=60) == 0, timeout_s=60)


def _terminate(site: Site) -> subprocess.Popen[bytes]:
    assert site.server.process is not None
    site.server.process.send_signal(signal.SIGTERM)
    return site.server.process


SCENARIOS = (
    Scenario(name="first start", prepare=_nothing, begin=_launch, had_before=False, process="starts"),
    Scenario(
        name="start after a kill",
        prepare=_killed_when_staged,
        begin=_launch,
        process="starts",
        only=frozenset({"timestore_app.data_directory:DataDirectory._clear_staging Path.unlink"}),
    ),
    Scenario(
        name="first put",
        prepare=_running_new,
        begin=lambda site: site.send("good"),
        had_before=False,
        only=frozenset({"catalog commit_appends", "catalog record_intents"}),
    ),
    Scenario(name="put", prepare=_running, begin=lambda site: site.send("good")),
    Scenario(
        name="put to another disk",
        prepare=_running,
        begin=lambda site: site.send("good"),
        across_disks=True,
        only=frozenset(step for step in call_steps() if "_copy_across" in step),
    ),
    Scenario(name="refused put", prepare=_running, begin=lambda site: site.send("unordered")),
    Scenario(name="abandon", prepare=_running, begin=lambda site: site.send("abandon")),
    Scenario(name="retention", prepare=_with_another, begin=lambda site: site.send("retention")),
    Scenario(name="expire", prepare=_with_another, begin=lambda site: site.send("expire")),
    Scenario(name="drop", prepare=_with_another, begin=lambda site: site.send("drop")),
    Scenario(name="purge expired", prepare=_with_expired, begin=_keep_house, process="works", is_done=_is_purged),
    Scenario(name="purge dropped", prepare=_with_dropped, begin=_keep_house, process="works", is_done=_is_purged),
    Scenario(name="sweep", prepare=_killed_when_published, begin=_keep_house, process="works", is_done=_is_swept),
    Scenario(name="adopt", prepare=_stopped, begin=_adopt, process="command", repeat=_adopt_again),
    Scenario(name="stop", prepare=_running, begin=_terminate, process="stops"),
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
# Steps that only a failure from outside brings about, with the test that does.
ELSEWHERE = {
    "writers.data_file:DuckDBWriter.write Path.unlink": "tests/writers/test_data_file.py",
}
