"""The speeds that are asked for: one table, each line with its limit and how it is judged.

Judged is the median over the rounds. Figures of two contenders are compared within the same round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bench.contenders import DUCKDB_FILES, FILE_CEILINGS, FLIGHT_DROP, RAW_UPLOAD, TIMESTORE
from bench.measuring import Figures
from bench.parts import bulk, disorder, flat_cost, memory, puts, start, store
from bench.results import Case, Report, Spread

AT_MOST, AT_LEAST = "<=", ">="


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a target was measured on, and the figure of every round."""

    name: str
    figures: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line of what is asked for."""

    name: str
    what: str
    bound: str
    limit: float
    unit: str
    how: str
    subjects: Callable[[Report], list[Subject]]

    def is_met(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value <= self.limit if self.bound == AT_MOST else value >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one target on one subject."""

    target: Target
    subject: str
    spread: Spread

    @property
    def met(self) -> bool:
        return self.target.is_met(self.spread.median)


def judge(report: Report) -> list[Verdict]:
    """Judge every target on everything it was measured on; what was not measured is not judged."""
    return [
        Verdict(target=target, subject=subject.name, spread=Spread.of(subject.figures))
        for target in TARGETS
        for subject in target.subjects(report)
        if subject.figures
    ]


def file_ceiling(report: Report, shape: str, windows: str) -> Case | None:
    """Find the in-process ceiling: the fastest known way to write these files."""
    cases = [case for name in FILE_CEILINGS for case in report.select(bulk.PART, name, shape=shape, windows=windows)]
    return min(cases, key=lambda case: median(case.values("seconds")), default=None)


def _bulk_puts(report: Report, *shapes: str) -> Iterator[tuple[Case, Case, Case, str]]:
    """Give each put with its two ceilings, and a name for it."""
    for put in report.select(bulk.PART, TIMESTORE):
        shape, streams, windows = (put.labels[name] for name in ("shape", "streams", "windows"))
        files = file_ceiling(report, shape, windows)
        drops = report.select(bulk.PART, FLIGHT_DROP, shape=shape, streams=streams)
        if files is not None and drops and shape in shapes:
            yield put, files, drops[0], f"{shape}, {put.load}"


def _optimum(*shapes: str) -> Callable[[Report], list[Subject]]:
    """Compare a put with the processor seconds that its two halves need, spread over all cores."""

    def subjects(report: Report) -> list[Subject]:
        cores = int(report.machine["cores"])

        def of_round(put: Figures, files: Figures, drop: Figures) -> float:
            return put["seconds"] / ((files["cpu_s"] + drop["cpu_s"]) / cores)

        return [
            Subject(name=name, figures=_by_round(of_round, put, files, drop))
            for put, files, drop, name in _bulk_puts(report, *shapes)
        ]

    return subjects


def _share(shape: str) -> Callable[[Report], list[Subject]]:
    """Take a put's speed as a share of the in-process ceiling's."""

    def subjects(report: Report) -> list[Subject]:
        return [
            Subject(name=name, figures=_by_round(_speed, put, files))
            for put, files, _, name in _bulk_puts(report, shape)
        ]

    return subjects


def _against(peer: str) -> Callable[[Report], list[Subject]]:
    """Compare the speed of one stream into one window with a peer's, on every shape."""

    def subjects(report: Report) -> list[Subject]:
        return [
            Subject(name=str(theirs.labels["shape"]), figures=_by_round(_speed, put, theirs))
            for theirs in report.select(bulk.PART, peer)
            for put in report.select(bulk.PART, TIMESTORE, shape=str(theirs.labels["shape"]), streams="1", windows="1")
        ]

    return subjects


def _disorder(*kinds: str) -> Callable[[Report], list[Subject]]:
    """Compare the speed with that of the same number of rows in order, in the usual number of windows."""

    def subjects(report: Report) -> list[Subject]:
        return [
            Subject(name=f"{kind}, {case.labels['windows']} windows", figures=_by_round(_speed, case, ordered))
            for ordered in report.select(disorder.PART, rows=disorder.IN_ORDER)
            for kind in kinds
            for case in report.select(disorder.PART, rows=kind)
        ]

    return subjects


def _flat_commit(report: Report) -> list[Subject]:
    cases = sorted(report.select(flat_cost.PART, flat_cost.COMMIT), key=lambda case: int(case.labels["files"]))
    return [
        Subject(
            name=f"{many.labels['files']} files against {few.labels['files']}",
            figures=_by_round(lambda ours, theirs: ours["p50_ms"] / theirs["p50_ms"], many, few),
        )
        for few, many in pairwise(cases)
    ]


def _memory_growth(report: Report) -> list[Subject]:
    return [
        Subject(
            name="large stream against small",
            figures=_by_round(lambda ours, theirs: ours["rss_peak_bytes"] / theirs["rss_peak_bytes"], large, small),
        )
        for large in report.select(memory.PART, case=memory.LARGE_STREAM)
        for small in report.select(memory.PART, case=memory.SMALL_STREAM)
    ]


def _memory_bound(report: Report) -> list[Subject]:
    return [
        Subject(
            name=case.labels["case"],
            figures=_by_round(lambda one: one["rss_peak_bytes"] / one["rss_limit_bytes"], case),
        )
        for case in report.select(memory.PART)
    ]


def _figure(figure: str, part: str, contender: str, **labels: str) -> Callable[[Report], list[Subject]]:
    """Take one figure as it is."""

    def subjects(report: Report) -> list[Subject]:
        cases = report.select(part, contender, **labels)
        return [Subject(name=case.labels.get("case", contender), figures=case.values(figure)) for case in cases]

    return subjects


def _crowd(report: Report) -> list[Subject]:
    cases = sorted(report.select(puts.PART, TIMESTORE), key=lambda case: int(case.labels["clients"]))
    return [
        Subject(
            name=f"{many.labels['clients']} clients",
            figures=_by_round(lambda ours, theirs: ours["per_s"] / theirs["per_s"], many, one),
        )
        for one, many in pairwise(cases)
    ]


def _store(report: Report) -> list[Subject]:
    """Compare a put to a store with the slower of its halves: the put to the disk, and the upload of the same files."""

    def of_round(put: Figures, disk: Figures, upload: Figures) -> float:
        return max(disk["seconds"], upload["seconds"]) / put["seconds"]

    return [
        Subject(name=upload.labels["to"], figures=_by_round(of_round, put, disk, upload))
        for upload in report.select(store.PART, RAW_UPLOAD)
        for put in report.select(store.PART, TIMESTORE, to=upload.labels["to"])
        for disk in report.select(store.PART, TIMESTORE, to=store.DISK)
    ]


def _by_round(compare: Callable[..., float], *cases: Case) -> list[float]:
    return [compare(*samples) for samples in zip(*(case.samples for case in cases), strict=True)]


def _speed(ours: Figures, theirs: Figures) -> float:
    """How many times as fast we are on the same rows."""
    return theirs["seconds"] / ours["seconds"]


_SHARE_HOW = f"seconds of the fastest of {' and '.join(FILE_CEILINGS)} / seconds of the put, same windows"
_PEER_HOW = "the peer's seconds / seconds of a put of one stream into one window; the peer is spared Flight"

TARGETS: tuple[Target, ...] = (
    Target(
        name="bulk-optimum",
        what="a bulk put takes what its parts take on all cores",
        bound=AT_MOST,
        limit=1.08,
        unit="x",
        how=f"wall / ((CPU s of {DUCKDB_FILES} + CPU s of {FLIGHT_DROP}, both processes) / cores)",
        subjects=_optimum("plain", "dict", "narrow"),
    ),
    Target(
        name="share-plain",
        what="share of the in-process ceiling, plain",
        bound=AT_LEAST,
        limit=0.88,
        unit="x",
        how=_SHARE_HOW,
        subjects=_share("plain"),
    ),
    Target(
        name="share-dict",
        what="share of the in-process ceiling, dictionary",
        bound=AT_LEAST,
        limit=0.90,
        unit="x",
        how=_SHARE_HOW,
        subjects=_share("dict"),
    ),
    Target(
        name="share-narrow",
        what="share of the in-process ceiling, narrow",
        bound=AT_LEAST,
        limit=0.80,
        unit="x",
        how=_SHARE_HOW,
        subjects=_share("narrow"),
    ),
    Target(
        name="ahead-of-ducklake",
        what="faster than DuckLake on every shape",
        bound=AT_LEAST,
        limit=1.0,
        unit="x",
        how=_PEER_HOW,
        subjects=_against("DuckLake"),
    ),
    Target(
        name="ahead-of-pyiceberg",
        what="faster than PyIceberg on every shape",
        bound=AT_LEAST,
        limit=1.0,
        unit="x",
        how=_PEER_HOW,
        subjects=_against("PyIceberg"),
    ),
    Target(
        name="ahead-of-copy",
        what="faster than COPY into Postgres on every shape",
        bound=AT_LEAST,
        limit=1.0,
        unit="x",
        how=_PEER_HOW,
        subjects=_against("Postgres COPY"),
    ),
    Target(
        name="level-with-delta-rs",
        what="as fast as delta-rs on every shape, but for noise",
        bound=AT_LEAST,
        limit=0.95,
        unit="x",
        how=_PEER_HOW,
        subjects=_against("delta-rs"),
    ),
    Target(
        name="random-order",
        what="rows in random order over many windows",
        bound=AT_LEAST,
        limit=0.7,
        unit="x",
        how="seconds of the same put in order / seconds, for `sort` and for `any`",
        subjects=_disorder(disorder.RANDOM_SORT, disorder.RANDOM_ANY),
    ),
    Target(
        name="many-windows",
        what="1 000 windows in one put",
        bound=AT_LEAST,
        limit=0.5,
        unit="x",
        how="seconds of as many rows in 28 windows / seconds; about 5 000 rows in each window",
        subjects=_disorder(disorder.MANY_WINDOWS),
    ),
    Target(
        name="flat-commit",
        what="a commit costs the same with 100 000 files in the catalog",
        bound=AT_MOST,
        limit=1.2,
        unit="x",
        how="p50 with 100 000 files / p50 with 100, in turns",
        subjects=_flat_commit,
    ),
    Target(
        name="manifest-page",
        what="first page of a manifest with key and time filter, 100 000 files",
        bound=AT_MOST,
        limit=20.0,
        unit="ms",
        how="p50, at a client",
        subjects=_figure("p50_ms", flat_cost.PART, flat_cost.MANIFEST),
    ),
    Target(
        name="memory-growth",
        what="memory for a 20 GB stream against 1 GB",
        bound=AT_MOST,
        limit=1.2,
        unit="x",
        how="peak RSS of the server / peak RSS, each on a new server (smaller streams in the quick plan)",
        subjects=_memory_growth,
    ),
    Target(
        name="memory-bound",
        what="memory with many streams, large batches, 200 windows, stalled clients",
        bound=AT_MOST,
        limit=1.0,
        unit="x",
        how="peak RSS of the server / (budget + 150 MB + 3 x largest batch x running puts)",
        subjects=_memory_bound,
    ),
    Target(
        name="no-starving",
        what="no stream waits for ever while others are served",
        bound=AT_MOST,
        limit=30.0,
        unit="s",
        how="the longest time for which the server did not take a stream's next batch",
        subjects=_figure("longest_pause_s", memory.PART, TIMESTORE),
    ),
    Target(
        name="start",
        what="health answers after a clean stop",
        bound=AT_MOST,
        limit=2.0,
        unit="s",
        how="from the start of the process to the answer",
        subjects=_figure("seconds", start.PART, TIMESTORE),
    ),
    Target(
        name="one-put",
        what="one put of 1000 rows, alone, landing `file`",
        bound=AT_MOST,
        limit=9.0,
        unit="ms",
        how="p50 of the round",
        subjects=_figure("p50_ms", puts.PART, TIMESTORE, clients="1"),
    ),
    Target(
        name="many-clients",
        what="puts of 1000 rows by 32 clients against one",
        bound=AT_LEAST,
        limit=3.0,
        unit="x",
        how="puts per second / puts per second of one client",
        subjects=_crowd,
    ),
    Target(
        name="store",
        what="a bulk put to an object store is as fast as its slower half",
        bound=AT_LEAST,
        limit=0.9,
        unit="x",
        how="the slower of (seconds of the put to the disk, seconds of fsspec's upload of the same files) / seconds",
        subjects=_store,
    ),
)
