"""All parts, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.parts import bulk, disorder, flat_cost, memory, puts, start, store
from bench.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a run."""

    name: str
    about: str
    measure: Callable[[Session], None]


PARTS = {
    part.name: part
    for part in (
        Part(
            name=bulk.PART,
            about="one load as fast as it goes: Timestore, ceilings and peers, interleaved",
            measure=bulk.measure_bulk,
        ),
        Part(
            name=disorder.PART,
            about="rows in random order over many windows, and very many windows",
            measure=disorder.measure_disorder,
        ),
        Part(
            name=flat_cost.PART,
            about="commits and manifests with few and many files in the catalog",
            measure=flat_cost.measure_flat_cost,
        ),
        Part(name=memory.PART, about="the server's memory, whatever clients do", measure=memory.measure_memory),
        Part(name=start.PART, about="a start after a clean stop", measure=start.measure_start),
        Part(name=puts.PART, about="puts of 1000 rows, one client and many", measure=puts.measure_puts),
        Part(
            name=store.PART,
            about="one load to an object store, against the same to the disk, and against the upload alone",
            measure=store.measure_store,
        ),
    )
}
