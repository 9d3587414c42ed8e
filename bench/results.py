"""What a run leaves: every sample of every contender, as values and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.measuring import Figures

FORMAT = 2
FILE_NAME = "result.json"
UNFINISHED_NAME = "unfinished.json"  # while a run goes on, and if it is interrupted


class ReportError(Exception):
    """A file that is no result of this harness; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a few figures, with the least and the greatest."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        return cls(median(figures), min(figures), max(figures))

    def text(self, digits: int) -> str:
        """Write it with the range only where there is one."""
        middle = f"{self.median:,.{digits}f}"
        return middle if self.min == self.max else f"{middle} ({self.min:,.{digits}f}-{self.max:,.{digits}f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One contender under one load, and its samples, one for each round."""

    part: str
    contender: str
    labels: Mapping[str, str]  # what load: shape, streams, days, order, ...
    rows: int
    bytes: int
    samples: list[Figures]

    def values(self, figure: str) -> list[float]:
        """Return one figure of every round; empty if it was not taken."""
        return [sample[figure] for sample in self.samples if figure in sample]

    @property
    def load(self) -> str:
        """Say how many streams and windows there were, as far as they matter to it."""
        counts = [(name, self.labels[name]) for name in ("streams", "windows") if name in self.labels]
        return ", ".join(f"{count} {name if count != '1' else name.removesuffix('s')}" for name, count in counts)

    @property
    def title(self) -> str:
        """Name it in one line."""
        return " ".join([self.contender, *(f"{name}={value}" for name, value in self.labels.items())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A contender that did not take part, and why."""

    part: str
    contender: str
    shape: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything about one run. There is none of a run in which something was wrong."""

    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, Any]
    durability: Mapping[str, str]
    absences: tuple[Absence, ...]
    cases: tuple[Case, ...]

    def select(self, part: str, contender: str | None = None, **labels: str) -> list[Case]:
        """Find cases: of a part, perhaps of one contender, with these labels."""
        return [
            case
            for case in self.cases
            if case.part == part and contender in (None, case.contender) and labels.items() <= dict(case.labels).items()
        ]

    def values(self, figure: str, part: str, contender: str, **labels: str) -> list[float]:
        """Return one figure of every round of the one case that fits; empty if there is none."""
        cases = self.select(part, contender, **labels)
        return cases[0].values(figure) if cases else []

    def save(self, folder: Path, *, name: str = FILE_NAME) -> Path:
        """Write the JSON into a folder and return the file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what ``save`` wrote, from its file or folder; raises ``ReportError``."""
        file = path / FILE_NAME if path.is_dir() else path
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            if fields.pop("format") != FORMAT:
                raise ReportError(f"{file} has another format than {FORMAT}: measure again")
            fields["absences"] = tuple(Absence(**absence) for absence in fields["absences"])
            fields["cases"] = tuple(Case(**case) for case in fields["cases"])
            return cls(**fields)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ReportError(f"{file} is no result of this benchmark: {exc}") from exc


@dataclass(slots=True, kw_only=True)
class Recorder:
    """Collects what the parts measure."""

    cases: dict[tuple[str, str, tuple[tuple[str, str], ...]], Case] = field(default_factory=dict)
    absences: list[Absence] = field(default_factory=list)
    durability: dict[str, str] = field(default_factory=dict)

    def add(
        self, part: str, contender: str, labels: Mapping[str, str], figures: Figures, *, rows: int = 0, size: int = 0
    ) -> None:
        """Note one round of one case."""
        name = (part, contender, tuple(sorted(labels.items())))
        if name not in self.cases:
            self.cases[name] = Case(
                part=part, contender=contender, labels=dict(labels), rows=rows, bytes=size, samples=[]
            )
        self.cases[name].samples.append(dict(figures))

    def leave_out(self, absence: Absence) -> None:
        """Note that a contender does not take part, and forget what it did on this shape before."""
        self.absences.append(absence)
        for name, case in list(self.cases.items()):
            if (case.part, case.contender, case.labels.get("shape")) == (
                absence.part,
                absence.contender,
                absence.shape,
            ):
                del self.cases[name]

    def report(self, settings: Mapping[str, Any], machine: Mapping[str, Any], versions: Mapping[str, Any]) -> Report:
        """Give what there is so far."""
        return Report(
            settings=settings,
            machine=machine,
            versions=versions,
            durability=dict(self.durability),
            absences=tuple(self.absences),
            cases=tuple(self.cases.values()),
        )
