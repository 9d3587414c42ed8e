"""The bulk results as rows, from which the tables, the README's and the plots are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.contenders import TIMESTORE
from bench.parts import bulk
from bench.results import Case, Report, Spread

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRow:
    """One contender under one load, compared with Timestore's put of as many streams into as many windows."""

    case: Case
    timestore_to_it: Spread | None  # how many times as fast Timestore was, round by round

    @property
    def megabytes_per_s(self) -> Spread:
        """Arrow's bytes in memory, by time."""
        return Spread.of([self.case.bytes / seconds / MB for seconds in self.case.values("seconds")])

    @property
    def rows_per_s(self) -> Spread:
        return Spread.of([self.case.rows / seconds for seconds in self.case.values("seconds")])

    def figure(self, name: str, digits: int, scale: float = 1.0) -> str:
        """Write another figure; a dash if it was not taken."""
        values = self.case.values(name)
        return Spread.of([value * scale for value in values]).text(digits) if values else "-"


def bulk_rows(report: Report, shape: str) -> Iterator[BulkRow]:
    """Give every case of a shape."""
    for case in report.select(bulk.PART, shape=shape):
        yield BulkRow(case=case, timestore_to_it=_compared(report, case))


def shapes_of(report: Report) -> list[str]:
    """List the shapes that were measured."""
    return list(dict.fromkeys(str(case.labels["shape"]) for case in report.select(bulk.PART)))


def _compared(report: Report, case: Case) -> Spread | None:
    if case.contender == TIMESTORE:
        return None
    wanted = {"streams": "1", "windows": "1"} | {
        name: value for name, value in case.labels.items() if name in ("streams", "windows")
    }
    puts = report.select(bulk.PART, TIMESTORE, shape=str(case.labels["shape"]), **wanted)
    if not puts:
        return None
    return Spread.of(
        [theirs / ours for ours, theirs in zip(puts[0].values("seconds"), case.values("seconds"), strict=True)]
    )
