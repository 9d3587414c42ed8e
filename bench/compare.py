"""Two results, an old one and a new one: what became slower."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.table import Table

from bench.results import Report, Spread
from bench.targets import AT_LEAST, Verdict, judge

SAME_MACHINE = ("cpu", "cores", "file_system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One target's figure on one subject, before and after."""

    target: str
    subject: str
    old: Spread
    new: Spread
    larger_is_better: bool

    @property
    def gain(self) -> float:
        """How many times as good it has become."""
        ratio = self.new.median / self.old.median
        return ratio if self.larger_is_better else 1 / ratio

    def is_worse(self, tolerance: float) -> bool:
        """Whether it is worse by more than the tolerance, and by more than the noise of both."""
        apart = self.new.max < self.old.min if self.larger_is_better else self.new.min > self.old.max
        return apart and self.gain < 1 - tolerance


def compare(old: Report, new: Report) -> list[Change]:
    """Compare what both have measured. Targets' figures are mostly ratios, so that two days can be compared."""
    before = {_name(verdict): verdict for verdict in judge(old)}
    return [
        Change(
            target=verdict.target.name,
            subject=verdict.subject,
            old=before[_name(verdict)].spread,
            new=verdict.spread,
            larger_is_better=verdict.target.bound == AT_LEAST,
        )
        for verdict in judge(new)
        if _name(verdict) in before
    ]


def differences(old: Report, new: Report) -> list[str]:
    """Say what makes the two hard to compare: another machine, or other settings."""
    pairs = [(name, old.machine.get(name), new.machine.get(name)) for name in SAME_MACHINE]
    pairs += [(name, old.settings.get(name), value) for name, value in new.settings.items()]
    return [f"{name} was {before}, is {after}" for name, before, after in pairs if before != after]


def change_table(changes: list[Change], tolerance: float) -> Table:
    """Show all changes, what became worse marked."""
    table = Table(title="Old and new", title_justify="left", box=box.SIMPLE)
    for column in ("target", "on", "old", "new", "as good", ""):
        table.add_column(column)
    for change in changes:
        mark = "WORSE" if change.is_worse(tolerance) else ""
        table.add_row(
            change.target, change.subject, change.old.text(2), change.new.text(2), f"{change.gain:.2f} x", mark
        )
    return table


def _name(verdict: Verdict) -> tuple[str, str]:
    return verdict.target.name, verdict.subject
