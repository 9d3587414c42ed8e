"""Deterministic data in the manner of TSBS: hosts (or trucks) that report together, every ten seconds.

Row for row the same on every machine and in every run, however many rows are asked for; made batch by batch, so that
any size can be streamed. Imports nothing of the harness: peers import it in environments of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HOSTS = 1024
STEP_US = 10_000_000
DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
TIMESTAMP_COLUMN = "ts"
LATE_TICKS = 360  # a late row is up to an hour late
SEED = 20_260_101

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Tags = dict[str, Callable[[int], str]]

_INSTANT = pa.timestamp("us", "UTC")
_CPU_TAGS: Tags = {
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
_CPU_FLOATS = ("usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait")
_CPU_INTEGERS = ("usage_irq", "usage_softirq", "usage_steal", "usage_guest", "usage_guest_nice")
_TRUCK_TAGS: Tags = {
    "name": lambda truck: f"truck_{truck}",
    "fleet": lambda truck: ("East", "West", "North", "South")[truck % 4],
    "driver": lambda truck: ("Derek", "Rodney", "Albert", "Andy", "Seth", "Trish")[truck * 5 % 6],
    "model": lambda truck: ("F-150", "G-2000", "H-2")[truck % 3],
    "device_version": lambda truck: ("v1.0", "v1.5", "v2.0", "v2.3")[truck * 3 % 4],
}
_TRUCK_FLOATS = ("latitude", "longitude", "elevation", "velocity", "heading", "grade", "fuel_consumption")
_WIDE_FLOATS = tuple(f"sensor_{number:03}" for number in range(200))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A kind of table. ``walks`` metrics of every host wander between 0 and 100; ``columns`` are made of them."""

    name: str
    about: str
    bytes_per_row: float  # of Arrow buffers, about
    ticks: int  # in a batch, each with one row for every host
    walks: int
    columns: Callable[[list[Doubles], int], dict[str, pa.Array]]
    late_share: float = 0.0

    @property
    def batch_rows(self) -> int:
        """How many rows a batch has."""
        return HOSTS * self.ticks

    def rows_of(self, size_bytes: float) -> int:
        """Say how many rows are about so many bytes of Arrow data."""
        return max(HOSTS, int(size_bytes / self.bytes_per_row))

    def batches(self, rows: int, *, step_us: int = STEP_US, shuffled: bool = False) -> Iterator[pa.RecordBatch]:
        """Make so many rows, batch by batch, in order of time; ``shuffled`` spreads the times over all batches.

        Late rows (``late_share``) lie up to ``LATE_TICKS`` steps before their neighbours.
        """
        random = np.random.default_rng(SEED)
        levels = random.uniform(0, 100, (self.walks, 1, HOSTS))
        for first in range(0, rows, self.batch_rows):
            paths = levels + np.cumsum(random.normal(0, 1, (self.walks, self.ticks, HOSTS)), axis=1)
            levels = paths[:, -1:, :]
            between_0_and_100 = np.abs(np.mod(paths, 200) - 100)
            ticks = self._shuffled_ticks(first, rows) if shuffled else self._ticks(first)
            columns = {TIMESTAMP_COLUMN: pa.array(START_US + step_us * ticks, _INSTANT)}
            columns |= self.columns([path.ravel() for path in between_0_and_100], self.ticks)
            yield pa.RecordBatch.from_pydict(columns).slice(0, min(self.batch_rows, rows - first))

    def _ticks(self, first: int) -> Integers:
        ticks = np.repeat(np.arange(self.ticks, dtype=np.int64) + first // HOSTS, HOSTS)
        if not self.late_share:
            return ticks
        random = np.random.default_rng([SEED, first])
        late = random.random(self.batch_rows) < self.late_share
        earlier: Integers = ticks - late * random.integers(1, LATE_TICKS + 1, self.batch_rows)
        return earlier.clip(min=0)

    def _shuffled_ticks(self, first: int, rows: int) -> Integers:
        ticks: Integers = np.random.default_rng([SEED, first]).integers(0, -(-rows // HOSTS), self.batch_rows)
        return ticks


def step_over_days(rows: int, days: int) -> int:
    """Return the step with which so many rows fill so many days, all of them and no other.

    Raises ``ValueError`` if there are not enough rows for all days.
    """
    ticks = -(-rows // HOSTS)
    if ticks < days:
        raise ValueError(f"{rows:,} rows are too few for {days:,} days: {days * HOSTS:,} are needed")
    return days * DAY_US // ticks


def deal(batches: Sequence[pa.RecordBatch], streams: int) -> list[list[pa.RecordBatch]]:
    """Deal batches out to streams, each of which stays in order of time; small data is cut so that all get some."""
    rows = sum(batch.num_rows for batch in batches)
    step = min(batches[0].num_rows, -(-rows // streams))
    pieces = [batch.slice(start, step) for batch in batches for start in range(0, batch.num_rows, step)]
    return [pieces[stream::streams] for stream in range(streams)]


def _tags(tags: Tags, ticks: int) -> dict[str, pa.DictionaryArray]:
    """Write each tag of each host once, and point to it from every row."""
    hosts = np.tile(np.arange(HOSTS, dtype=np.int32), ticks)
    encoded = {
        name: pa.array([value(host) for host in range(HOSTS)]).dictionary_encode() for name, value in tags.items()
    }
    return {
        name: pa.DictionaryArray.from_arrays(tag.indices.take(pa.array(hosts)), tag.dictionary)
        for name, tag in encoded.items()
    }


def _as_text(tags: dict[str, pa.DictionaryArray]) -> dict[str, pa.Array]:
    return {name: tag.dictionary_decode() for name, tag in tags.items()}


def _metrics(walks: list[Doubles]) -> dict[str, pa.Array]:
    floats = {name: pa.array(walk) for name, walk in zip(_CPU_FLOATS, walks, strict=False)}
    whole = walks[len(_CPU_FLOATS) :]
    return floats | {name: pa.array(walk.astype(np.int64)) for name, walk in zip(_CPU_INTEGERS, whole, strict=True)}


def _plain(walks: list[Doubles], ticks: int) -> dict[str, pa.Array]:
    return _as_text(_tags(_CPU_TAGS, ticks)) | _metrics(walks)


def _dictionary(walks: list[Doubles], ticks: int) -> dict[str, pa.Array]:
    return _tags(_CPU_TAGS, ticks) | _metrics(walks)


def _narrow(walks: list[Doubles], ticks: int) -> dict[str, pa.Array]:
    return {"key": pa.array(np.tile(np.arange(HOSTS), ticks)), "value": pa.array(np.round(walks[0], 3))}


def _wide(walks: list[Doubles], ticks: int) -> dict[str, pa.Array]:  # noqa: ARG001
    return {name: pa.array(walk) for name, walk in zip(_WIDE_FLOATS, walks, strict=True)}


def _iot(walks: list[Doubles], ticks: int) -> dict[str, pa.Array]:
    readings = {name: pa.array(walk) for name, walk in zip(_TRUCK_FLOATS, walks, strict=True)}
    return _as_text(_tags(_TRUCK_TAGS, ticks)) | readings


_CPU_WALKS = len(_CPU_FLOATS) + len(_CPU_INTEGERS)

SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            name="plain",
            about="timestamp, 10 texts, 5 doubles, 5 integers",
            bytes_per_row=190,
            ticks=64,
            walks=_CPU_WALKS,
            columns=_plain,
        ),
        Shape(
            name="dict",
            about="the same, the texts dictionary-encoded",
            bytes_per_row=128,
            ticks=64,
            walks=_CPU_WALKS,
            columns=_dictionary,
        ),
        Shape(
            name="narrow",
            about="timestamp, integer key, double",
            bytes_per_row=24,
            ticks=64,
            walks=1,
            columns=_narrow,
        ),
        Shape(
            name="wide",
            about="timestamp, 200 doubles",
            bytes_per_row=1608,
            ticks=8,  # or a message would be 105 MB
            walks=len(_WIDE_FLOATS),
            columns=_wide,
        ),
        Shape(
            name="iot",
            about="timestamp, 5 texts, 7 doubles; 5 % of the rows come late",
            bytes_per_row=120,
            ticks=64,
            walks=len(_TRUCK_FLOATS),
            columns=_iot,
            late_share=0.05,
        ),
    )
}
