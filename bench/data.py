"""Deterministic data in the manner of TSBS's "cpu-only": hosts that report their metrics together, every ten seconds.

Row for row the same on every machine and in every run, however many rows are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HOSTS = 1024
TICKS = 64  # in a batch, each with one row for every host
BATCH_ROWS = HOSTS * TICKS
STEP_US = 10_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
TIMESTAMP_COLUMN = "ts"

_INSTANT = pa.timestamp("us", "UTC")
_TAGS: dict[str, Callable[[int], str]] = {
    "hostname": lambda host: f"host_{host}",
    "region": lambda host: ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1")[host % 5],
    "datacenter": lambda host: ("us-east-1a", "us-west-2b", "eu-west-1c", "eu-central-1a", "ap-south-1b")[host % 5],
    "rack": lambda host: str(host * 7 % 100),
    "os": lambda host: ("Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10")[host % 3],
    "arch": lambda host: ("x64", "x86")[host % 2],
    "team": lambda host: ("SF", "NYC", "LON", "CHI")[host * 3 % 4],
    "service": lambda host: str(host * 11 % 20),
    "service_version": lambda host: str(host % 2),
    "service_environment": lambda host: ("production", "staging", "test")[host * 5 % 3],
}
_FLOATS = ("usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait")
_INTEGERS = ("usage_irq", "usage_softirq", "usage_steal", "usage_guest", "usage_guest_nice")

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A kind of table. ``walks`` metrics of every host wander between 0 and 100; ``columns`` are made of them."""

    name: str
    about: str
    rows_factor: int  # rows for each one asked for, so that a narrow table takes long enough to be timed
    walks: int
    columns: Callable[[list[Doubles]], dict[str, pa.Array]]

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Make so many rows, batch by batch, in order of time."""
        random = np.random.default_rng(20_260_101)
        levels = random.uniform(0, 100, (self.walks, 1, HOSTS))
        for first in range(0, rows, BATCH_ROWS):
            paths = levels + np.cumsum(random.normal(0, 1, (self.walks, TICKS, HOSTS)), axis=1)
            levels = paths[:, -1:, :]
            between_0_and_100 = np.abs(np.mod(paths, 200) - 100)
            ticks = np.repeat(np.arange(TICKS, dtype=np.int64) + first // HOSTS, HOSTS)
            columns = {TIMESTAMP_COLUMN: pa.array(START_US + STEP_US * ticks, _INSTANT)}
            columns |= self.columns([path.ravel() for path in between_0_and_100])
            yield pa.RecordBatch.from_pydict(columns).slice(0, min(BATCH_ROWS, rows - first))


def deal(batches: Sequence[pa.RecordBatch], streams: int) -> list[list[pa.RecordBatch]]:
    """Deal batches out to streams, each of which stays in order of time; small data is cut so that all get some."""
    rows = sum(batch.num_rows for batch in batches)
    step = min(BATCH_ROWS, -(-rows // streams))
    pieces = [batch.slice(start, step) for batch in batches for start in range(0, batch.num_rows, step)]
    return [pieces[stream::streams] for stream in range(streams)]


def _plain(walks: list[Doubles]) -> dict[str, pa.Array]:
    hosts = pa.array(np.tile(np.arange(HOSTS), TICKS))
    tags = {name: pa.array([value(host) for host in range(HOSTS)]).take(hosts) for name, value in _TAGS.items()}
    floats = {name: pa.array(walk) for name, walk in zip(_FLOATS, walks[: len(_FLOATS)], strict=True)}
    integers = {
        name: pa.array(walk.astype(np.int64)) for name, walk in zip(_INTEGERS, walks[len(_FLOATS) :], strict=True)
    }
    return tags | floats | integers


def _narrow(walks: list[Doubles]) -> dict[str, pa.Array]:
    keys = np.tile(np.arange(HOSTS, dtype=np.int64), TICKS)
    return {"key": pa.array(keys), "value": pa.array(np.round(walks[0], 3))}


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            name="plain",
            about="timestamp, 10 texts, 5 doubles, 5 integers",
            rows_factor=1,
            walks=len(_FLOATS) + len(_INTEGERS),
            columns=_plain,
        ),
        Shape(name="narrow", about="timestamp, integer key, double", rows_factor=5, walks=1, columns=_narrow),
    )
}
