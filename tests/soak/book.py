"""The model: what was sent and what was answered, and what of it must be visible. It talks to nobody.

Within an incarnation of a dataset, an idempotency key stands for one put for ever, or for none. Everything that is
heard is held against that; what does not fit is a violation.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from tests.soak.events import Abandoned, Answered, HalfSent, Refused, Sending
from tests.soak.sent import sent

HONEST_REFUSALS = ("idempotency_conflict", "idempotency_abandoned")

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """An append that a receipt was given for."""

    put: str
    receipt: dict[str, Any]  # as first answered

    @property
    def version(self) -> int:
        """The version that made it visible."""
        return int(self.receipt["version"])


@dataclass(slots=True, kw_only=True)
class Sighting:
    """What reads have shown of a put whose receipt nobody has yet."""

    absent_at: int = -1  # the newest version
    present_at: int | None = None  # the oldest version

    def note(self, version: int, *, present: bool) -> None:
        """Add what one read has shown."""
        if not present:
            self.absent_at = max(self.absent_at, version)
        elif self.present_at is None or version < self.present_at:
            self.present_at = version


@dataclass(slots=True, kw_only=True)
class Page:
    """What is known of one dataset."""

    sent: dict[str, str] = field(default_factory=dict)  # puts to their keys
    in_doubt: dict[str, str] = field(default_factory=dict)  # puts without an answer, to their keys
    committed: dict[str, dict[str, Committed]] = field(default_factory=dict)  # by incarnation and key
    refused: list[Refused] = field(default_factory=list)
    abandoned: set[str] = field(default_factory=set)
    sightings: dict[tuple[str, str], Sighting] = field(default_factory=dict)  # by incarnation and put


class Book:
    """All pages. Thread safe."""

    def __init__(self, *, violation: Report) -> None:
        self._violation = violation
        self._lock = threading.RLock()
        self._pages: dict[str, Page] = {}
        self.counts: Counter[str] = Counter()

    def hear(self, event: Sending | Answered | Refused | Abandoned | HalfSent) -> None:
        """Note what a client did or was answered."""
        with self._lock:
            page = self._pages.setdefault(event.dataset, Page())
            match event:
                case Sending():
                    self.counts["puts sent"] += 1
                    page.sent[event.put] = event.key
                    page.in_doubt[event.put] = event.key
                case Answered():
                    self._hear_receipt(page, event)
                case Refused():
                    self._hear_refusal(page, event)
                case Abandoned():
                    self._hear_abandoned(page, event)
                case HalfSent():
                    self._hear_half(event)

    def saw(
        self, dataset: str, incarnation: str, version: int, puts: Set[str], *, judged: Set[str], some_expired: bool
    ) -> None:
        """Note which puts a read at a version showed; those ``judged`` already, by their receipts, are left out.

        Of a put whose rows are all old nothing can be told once old rows have expired.
        """
        with self._lock:
            page = self._pages.setdefault(dataset, Page())
            known = {done.put: done for done in page.committed.get(incarnation, {}).values()}
            for put in (page.in_doubt.keys() | known.keys() | puts) - judged:
                if some_expired and sent(put).is_all_old:
                    continue
                sighting = page.sightings.setdefault((incarnation, put), Sighting())
                sighting.note(version, present=put in puts)
                if put in known:
                    self._compare_sighting(page, dataset, known[put])

    def committed(self, dataset: str, incarnation: str) -> dict[str, Committed]:
        """Return what is known to have committed, by key."""
        with self._lock:
            return dict(self._pages.get(dataset, Page()).committed.get(incarnation, {}))

    def committed_count(self, dataset: str) -> int:
        """Return how many appends are known, in all incarnations."""
        with self._lock:
            return sum(len(keys) for keys in self._pages.get(dataset, Page()).committed.values())

    def in_doubt(self, dataset: str) -> dict[str, str]:
        """Return the puts that nobody has heard the end of, with their keys."""
        with self._lock:
            return dict(self._pages.get(dataset, Page()).in_doubt)

    def abandoned(self, dataset: str) -> set[str]:
        """Return the keys that are given up for ever."""
        with self._lock:
            return set(self._pages.get(dataset, Page()).abandoned)

    def close(self, dataset: str) -> None:
        """Judge what only the end can tell of a dataset that nobody uses, nothing in doubt, and forget it."""
        with self._lock:
            page = self._pages.pop(dataset, Page())
        everywhere = list(page.committed.values())
        for refused in page.refused:
            standing = [keys[refused.key].put for keys in everywhere if refused.key in keys]
            if refused.kind == "idempotency_conflict" and set(standing) <= {refused.put}:
                self._violation(
                    f"{dataset}: {refused.put} was refused as a conflict, but {refused.key} stands for {standing}"
                )
            if refused.kind == "idempotency_abandoned" and refused.key not in page.abandoned:
                self.counts["abandonments nobody heard of"] += 1
        for (incarnation, put), sighting in page.sightings.items():
            if sighting.present_at is not None and put not in _puts(page.committed.get(incarnation, {})):
                self._violation(
                    f"{dataset}: rows of {put} were visible at version {sighting.present_at}; it has no receipt"
                )

    def _hear_receipt(self, page: Page, event: Answered) -> None:
        page.in_doubt.pop(event.put, None)
        receipt = {**event.receipt, "replayed": False}
        keys = page.committed.setdefault(receipt["incarnation"], {})
        self.counts["receipts, replayed" if event.receipt["replayed"] else "receipts, first"] += 1
        if receipt["rows"] != sent(event.put).rows.num_rows:
            self._violation(f"{event.dataset}: the receipt of {event.put} says {receipt['rows']} rows")
        if event.key in page.abandoned:
            self._violation(f"{event.dataset}: {event.put} committed with {event.key}, which was abandoned")
        first = keys.setdefault(event.key, Committed(put=event.put, receipt=receipt))
        if first.put != event.put:
            self._violation(
                f"{event.dataset}: {event.key} stands for {first.put}, and {event.put} got a receipt with it"
            )
        elif first.receipt != receipt:
            self._violation(f"{event.dataset}: the receipt of {event.put} changed: {first.receipt}, then {receipt}")
        self._compare_sighting(page, event.dataset, first)

    def _compare_sighting(self, page: Page, dataset: str, done: Committed) -> None:
        """Hold what reads showed before against the version that the receipt names."""
        sighting = page.sightings.pop((done.receipt["incarnation"], done.put), Sighting())
        if sighting.absent_at >= done.version:
            self._violation(_misplaced(dataset, done.put, done.version, sighting.absent_at, present=False))
        if sighting.present_at is not None and sighting.present_at < done.version:
            self._violation(_misplaced(dataset, done.put, done.version, sighting.present_at, present=True))

    def _hear_refusal(self, page: Page, event: Refused) -> None:
        if event.in_doubt:
            self.counts["puts given up in doubt"] += 1
            return
        page.in_doubt.pop(event.put, None)
        page.refused.append(event)
        self.counts[f"refused, {event.kind}"] += 1
        if event.kind not in HONEST_REFUSALS:
            self._violation(f"{event.dataset}: {event.put} was refused: [{event.kind}] {event.message}")

    def _hear_abandoned(self, page: Page, event: Abandoned) -> None:
        self.counts["keys abandoned" if event.receipt is None else "keys to be abandoned that had committed"] += 1
        done = [keys[event.key] for keys in page.committed.values() if event.key in keys]
        if event.receipt is not None:
            if done and {**event.receipt, "replayed": False} != done[0].receipt:
                self._violation(f"{event.dataset}: abandoning {event.key} gave another receipt than its put")
            return
        page.abandoned.add(event.key)
        if done:
            self._violation(f"{event.dataset}: {event.key} was abandoned, but {done[0].put} has committed with it")

    def _hear_half(self, event: HalfSent) -> None:
        self.counts["puts ended halfway"] += 1
        if event.kind == "committed":
            self._violation(f"{event.dataset}: {event.put} committed without its end")


def _puts(keys: dict[str, Committed]) -> set[str]:
    return {done.put for done in keys.values()}


def _misplaced(dataset: str, put: str, committed: int, read: int, *, present: bool) -> str:
    seen = "were visible" if present else "were missing"
    return f"{dataset}: {put} committed at version {committed}, but its rows {seen} at version {read}"
