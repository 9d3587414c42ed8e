"""Results as a run would leave them, made up: what is judged and shown must not need a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.contenders import DUCKDB_FILES, FLIGHT_DROP, POSTGRES_COMMITS, RAW_UPLOAD, TIMESTORE
from bench.contenders.peer import PEERS
from bench.parts import bulk, disorder, flat_cost, memory, puts, start, store
from bench.results import Absence, Recorder, Report

MACHINE = {"date": "2026-11-24", "cpu": "made up", "cores": 2, "system": "Linux", "file_system": "ext4"}
VERSIONS = {"duckdb": "2.0.0", "pyarrow": "26.0.1", "commit": "abcdef0"}
ROUNDS = (0.99, 1.0, 1.01)  # the noise of three rounds

Fabricate = Callable[..., Report]


def _made_up(
    *, put: float = 1.0, wide_put: float = 1.0, rss: float = 1.0, manifest: float = 1.0, crowd: float = 1.0
) -> Report:
    recorder = Recorder()
    for noise in ROUNDS:
        _bulk(recorder, put * noise, wide_put * noise)
        for kind in (disorder.IN_ORDER, disorder.RANDOM_SORT, disorder.RANDOM_ANY, disorder.MANY_WINDOWS):
            windows = "1000" if kind == disorder.MANY_WINDOWS else "28"
            labels = {"shape": "plain", "rows": kind, "windows": windows}
            recorder.add(disorder.PART, TIMESTORE, labels, {"seconds": 1.0})
        for files in ("100", "100000"):
            recorder.add(flat_cost.PART, flat_cost.COMMIT, {"files": files}, {"p50_ms": 1.0})
        recorder.add(flat_cost.PART, flat_cost.MANIFEST, {"files": "100000"}, {"p50_ms": 15.0 * manifest})
        for case in (memory.SMALL_STREAM, memory.LARGE_STREAM, "64 streams"):
            figures = {"rss_peak_bytes": 9e8, "rss_limit_bytes": 1e9 / rss, "longest_pause_s": 2.0}
            recorder.add(memory.PART, TIMESTORE, {"case": case}, figures)
        recorder.add(start.PART, TIMESTORE, {}, {"seconds": 1.5})
        recorder.add(puts.PART, POSTGRES_COMMITS, {"clients": "1"}, {"per_s": 2_000.0})
        for clients, rate in (("1", 120.0), ("32", 400.0 / crowd)):
            recorder.add(puts.PART, TIMESTORE, {"clients": clients}, {"per_s": rate, "p50_ms": 8.0})
        for contender, to, seconds in (
            (TIMESTORE, store.DISK, 1.0),
            (RAW_UPLOAD, store.NEAR, 1.4),
            (TIMESTORE, store.NEAR, 1.5),
        ):
            recorder.add(store.PART, contender, {"shape": "plain", "to": to}, {"seconds": seconds})
    recorder.leave_out(Absence(part=bulk.PART, contender="chDB", shape="plain", reason="no wheel for this machine"))
    return Report(
        settings={"repeats": len(ROUNDS)},
        machine=MACHINE,
        versions=VERSIONS,
        durability={TIMESTORE: "fsynced, committed", "delta-rs": "nothing"},
        absences=tuple(recorder.absences),
        cases=tuple(recorder.cases.values()),
    )


def _bulk(recorder: Recorder, put: float, wide_put: float) -> None:
    """Files take 1 s of wall time and 1.9 s of two cores; a put takes 1.05 s."""
    for shape in ("plain", "dict", "narrow", "wide"):

        def add(contender: str, labels: dict[str, str], shape: str = shape, **figures: float) -> None:
            recorder.add(bulk.PART, contender, {"shape": shape, **labels}, figures, rows=10**6, size=2 * 10**8)

        add(DUCKDB_FILES, {"windows": "1"}, seconds=1.0, cpu_s=1.9, disk_bytes=5e7)
        for streams in ("1", "4"):
            add(FLIGHT_DROP, {"streams": streams}, seconds=0.1, cpu_s=0.1)
            seconds = 1.05 * (wide_put if shape == "wide" else put)
            add(TIMESTORE, {"streams": streams, "windows": "1"}, seconds=seconds, cpu_s=2.1, disk_bytes=5e7)
        for peer in PEERS:
            add(peer, {"windows": "1"}, seconds=1.2, cpu_s=2.0, disk_bytes=6e7)


@pytest.fixture(name="fabricate")
def _fabricate() -> Fabricate:
    """Make a result in which every target is just met; keywords make one thing worse by a factor."""
    return _made_up
