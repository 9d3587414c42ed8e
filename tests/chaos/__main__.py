"""``make chaos``: every trial there is, and a table of them."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.chaos.site import Laboratory
from tests.chaos.trials import FAULTS, Trial, matrix, reached_steps, run
from timestore_app.logs import configure_logs


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default="", help="Only trials whose name contains this.")
@click.option("--fast", is_flag=True, help="Leave out the faults that take more than ten seconds each.")
def main(only: str, fast: bool) -> None:
    """Break something at every moment between two durable steps, and look whether the promise held."""
    configure_logs(log_format="auto", level="error")
    console = Console(width=120)
    counts: Counter[tuple[str, str]] = Counter()
    violations: dict[Trial, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="timestore-chaos-") as directory:
        laboratory = Laboratory(Path(directory))
        try:
            reached = reached_steps(laboratory)
            trials = [trial for trial in matrix(reached) if only in str(trial) and not (fast and trial.fault.slow)]
            with Progress(console=console) as progress:
                for trial in progress.track(trials, description="trials"):
                    counts[f"{trial.scenario.name}: {trial.step}", trial.fault.name] += 1
                    if found := run(laboratory, trial):
                        violations[trial] = found
                        console.print(f"{trial}: {'; '.join(found)}")
        finally:
            laboratory.close()
    console.print(_table(counts))
    console.print(f"{len(trials)} trials, {len(violations)} with violations")
    sys.exit(1 if violations or not trials else 0)


def _table(counts: Counter[tuple[str, str]]) -> Table:
    table = Table("durable step", *(fault.name for fault in FAULTS), title="Trials: before and after each step")
    for step in dict.fromkeys(step for step, _ in counts):
        table.add_row(step, *(str(counts[step, fault.name] or "") for fault in FAULTS))
    return table


if __name__ == "__main__":
    main()
