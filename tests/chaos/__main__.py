"""``make chaos``: every trial there is, and a table of them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from tests.chaos.places import Buckets
from tests.chaos.site import Laboratory
from tests.chaos.store_trials import STORE_FAULTS, STORE_SCENARIOS
from tests.chaos.trials import FAULTS, SCENARIOS, Trial, matrix, reached_steps, run
from tests.fixtures.object_stores import seaweed_server
from timestore.errors import TimestoreError
from timestore_app.cli.output import print_table
from timestore_app.logs import configure_logs


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default="", help="Only trials whose name contains this.")
@click.option("--store", type=click.Choice(["directory", "s3"]), default="directory", help="Where data files go.")
@click.option("--fast", is_flag=True, help="Leave out the faults that take more than ten seconds each.")
def main(only: str, store: str, fast: bool) -> None:
    """Break something at every moment between two durable steps, and look whether the promise held."""
    configure_logs(log_format="auto", level="error")
    console = Console(width=120)
    counts: Counter[tuple[str, str]] = Counter()
    violations: dict[Trial, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="timestore-chaos-") as directory, ExitStack() as stack:
        places = _buckets(stack, Path(directory)) if store == "s3" else None
        laboratory = Laboratory(Path(directory), places)
        faults = STORE_FAULTS if places else FAULTS
        try:
            reached = reached_steps(laboratory, STORE_SCENARIOS if places else SCENARIOS)
            every = matrix(reached, faults)
            trials = [trial for trial in every if only in str(trial) and not (fast and trial.fault.slow)]
            with Progress(console=console) as progress:
                for trial in progress.track(trials, description="trials"):
                    counts[f"{trial.scenario.name}: {trial.step}", trial.fault.name] += 1
                    if found := _violations(laboratory, trial):
                        violations[trial] = found
                        console.print(f"{trial}: {'; '.join(found)}")
        finally:
            laboratory.close()
    _show(counts, [fault.name for fault in faults])
    console.print(f"{len(trials)} trials, {len(violations)} with violations")
    sys.exit(1 if violations or not trials else 0)


def _violations(laboratory: Laboratory, trial: Trial) -> list[str]:
    """Run a trial; one that does not come to its end is a violation too."""
    try:
        return run(laboratory, trial)
    except (AssertionError, TimestoreError) as exc:
        laboratory.heal()
        return [f"{type(exc).__name__}: {exc}"]


def _buckets(stack: ExitStack, directory: Path) -> Buckets:
    """Run an object store, and find it from here."""
    (directory / "store").mkdir()
    buckets = Buckets(stack.enter_context(seaweed_server(directory / "store")))
    os.environ.update(buckets.environment)
    return buckets


def _show(counts: Counter[tuple[str, str]], faults: list[str]) -> None:
    """Print how many trials each step had with each fault."""
    steps = dict.fromkeys(step for step, _ in counts)
    print_table([[step, *(str(counts[step, fault] or "") for fault in faults)] for step in steps], ["step", *faults])


if __name__ == "__main__":
    main()
