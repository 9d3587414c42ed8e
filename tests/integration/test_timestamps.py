"""The timestamp column, whatever its type: order, bounds, windows and reads, through a real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

import timestore
from tests.fixtures.files import published_files
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import ServerProcess, StartService
from timestore.errors import InvalidInputError

INT64 = 2**63
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
ZONES = [None, "UTC", "Europe/Berlin", "+05:30"]
TIMESTAMPS = [pa.timestamp(unit, zone) for unit in UNITS for zone in ZONES]
DATES = [pa.date32(), pa.date64()]


def _table(stamps: Sequence[int], type_: pa.DataType, **columns: Any) -> pa.Table:
    """A table whose timestamp column has these integers."""
    return pa.table({"ts": pa.array(stamps, pa.int64()).view(type_), **columns})


def _refused(client: timestore.Client, sent: pa.Table, kind: str, **options: Any) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        client.append("refused", sent, **options)
    assert caught.value.kind == kind
    return caught.value


def test_every_unit_and_zone_goes_through(client: timestore.Client) -> None:
    """In each unit and zone: back bit for bit, windows in UTC, and a range that cuts a file is exact."""
    moments = [datetime(1969, 12, 31, 23, tzinfo=UTC) + timedelta(hours=hour) for hour in range(26)]
    for number, type_ in enumerate(TIMESTAMPS):
        seconds = [int(moment.timestamp()) for moment in moments]
        sent = _table([second * UNITS[type_.unit] for second in seconds], type_, row=range(26))
        name = f"t{number}"

        receipt = client.append(name, sent)

        assert [file.window[0] for file in receipt.files] == [
            "1969-12-31T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "1970-01-02T00:00:00Z",
        ]
        assert client.read(name).equals(sent)
        part = client.read(name, columns=["row"], start=moments[3], end=moments[20])
        assert part.column("row").to_pylist() == list(range(3, 20))


@pytest.mark.parametrize("type_", DATES, ids=str)
def test_dates_serve_as_the_timestamp_column(client: timestore.Client, type_: pa.DataType) -> None:
    """Without a timestamp in the schema a date decides the window, is ordered, and can be cut by time."""
    days = [date(1969, 12, 30) + timedelta(days=day) for day in range(40)]
    sent = pa.table({"day": pa.array(days, type_), "row": range(40)})

    client.append("days", sent, create={"window": "month"})

    assert client.describe("days")["timestamp_column"] == "day"
    windows = [item["window"][0] for item in client.manifest("days")]
    assert windows == ["1969-12-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-02-01T00:00:00Z"]
    assert client.read("days").equals(sent)
    noon = datetime(1970, 1, 1, 12, tzinfo=UTC)
    assert client.read("days", start=noon, end=noon + timedelta(days=2)).column("row").to_pylist() == [3, 4]
    refusal = _refused(client, sent.take([0, 2, 1]), "timestamp_unordered")
    assert (refusal.details["value"], refusal.details["previous"]) == ("1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z")


def test_a_date_stays_the_timestamp_column_when_a_timestamp_comes(client: timestore.Client) -> None:
    """The timestamp column never changes; a timestamp that is added later is a column like others."""
    day = pa.array([date(2026, 1, 1)])
    client.append("days", pa.table({"day": day}))

    client.append("days", pa.table({"day": day, "at": pa.array([0], pa.timestamp("us"))}))

    assert client.describe("days")["timestamp_column"] == "day"
    assert len({tuple(item["window"]) for item in client.manifest("days")}) == 1


@pytest.mark.parametrize(
    ("around", "local"),
    [
        (datetime(2026, 3, 29, 1, tzinfo=UTC), ["01:00", "01:30", "03:00", "03:30"]),
        (datetime(2026, 10, 25, 1, tzinfo=UTC), ["02:00", "02:30", "02:00", "02:30"]),
    ],
    ids=["spring", "autumn"],
)
def test_daylight_saving_never_matters(client: timestore.Client, around: datetime, local: list[str]) -> None:
    """Clocks of Berlin jump or repeat an hour: rows are ordered and cut into windows by UTC all the same."""
    moments = [around + timedelta(minutes=minutes) for minutes in (-60, -30, 0, 30)]
    assert [f"{moment.astimezone(ZoneInfo('Europe/Berlin')):%H:%M}" for moment in moments] == local
    sent = pa.table({"ts": pa.array(moments, pa.timestamp("us", "Europe/Berlin")), "row": range(4)})

    client.append("berlin", sent, create={"window": "1h"})

    windows = [item["window"] for item in client.manifest("berlin")]
    hours = [around + timedelta(hours=hour) for hour in (-1, 0, 1)]
    texts = [hour.isoformat().replace("+00:00", "Z") for hour in hours]
    assert windows == [texts[:2], texts[1:]]
    assert client.read("berlin").equals(sent)
    assert client.read("berlin", start=around, end=hours[2]).column("row").to_pylist() == [2, 3]


def test_the_row_and_the_one_before_are_named_across_batches(server_url: str, client: timestore.Client) -> None:
    """The first row that falls is named with both values, though the row before it came batches ago."""
    schema = _table([], pa.timestamp("ns", "UTC")).schema
    put = RawPut(server_url, command(dataset="cpu", end="eof"), schema)
    for stamps in ([0, 10**9], [], [], [10**9 - 1, 5]):
        column = pa.array(stamps, pa.int64()).view(schema.field("ts").type)
        put.writer.write_batch(pa.record_batch([column], schema=schema))

    with pytest.raises(InvalidInputError) as caught:
        put.finish()

    assert caught.value.kind == "timestamp_unordered"
    assert caught.value.details.items() >= {
        ("row", "2"),
        ("value", "1970-01-01T00:00:00.999999999Z"),
        ("previous", "1970-01-01T00:00:01Z"),
    }
    assert client.datasets() == []


def test_values_are_for_the_client_and_not_for_the_log(
    server_process: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    """A refusal shows row values to the client alone: the server's log has the kind, and no value."""
    server = server_process()
    base = 1_767_225_600_123_456_789
    falls = _table([base, base - 1], pa.timestamp("ns"))
    with timestore.connect(server.url) as client:
        unordered = _refused(client, falls, "timestamp_unordered")
        outside = _refused(client, falls, "timestamp_out_of_bounds", create={"max": "2026-01-01T00:00:00.123456Z"})
        _refused(client, falls.slice(0, 1), "timestamp_out_of_bounds", create={"min": "2026-01-01T00:00:01Z"})

    shown = {unordered.details["value"], unordered.details["previous"], outside.details["value"]}
    assert shown == {"2026-01-01T00:00:00.123456788Z", "2026-01-01T00:00:00.123456789Z"}
    log = (tmp_path / "server.log").read_text()
    assert "timestamp_unordered" in log
    assert "timestamp_out_of_bounds" in log
    assert not [text for text in ("123456788", "123456789", *shown) if text in log]


def test_the_future_has_a_limit(client: timestore.Client) -> None:
    """A row may be so far after the server's clock and no further; which row, and what the limit is, is said."""
    now = int(time.time())
    create = {"future_tolerance_s": 3_600}
    client.append("near", _table([now, now + 1_800], pa.timestamp("s", "UTC")), create=create)

    refusal = _refused(
        client, _table([now, now + 7_200], pa.timestamp("s", "UTC")), "timestamp_out_of_bounds", create=create
    )

    assert refusal.details["row"] == "1"
    assert "future tolerance of 3600 s" in str(refusal)


@pytest.mark.parametrize(
    ("type_", "step"), [(pa.timestamp("us"), 86_400 * 10**6), (pa.date32(), 1)], ids=["timestamp", "date"]
)
def test_too_many_windows_are_refused_with_the_count(
    start_service: StartService, tmp_path: Path, type_: pa.DataType, step: int
) -> None:
    """Past max_windows_per_put the put is refused with count and limit, and nothing of it is stored."""
    integer = pa.int32() if pa.types.is_date32(type_) else pa.int64()
    stamps = pa.array([step * day for day in range(6)], integer).view(type_)
    with timestore.connect(start_service(max_windows_per_put=5).url) as client:
        assert client.append("enough", pa.table({"ts": stamps.slice(1)})).files_total == 5

        refusal = _refused(client, pa.table({"ts": stamps}), "too_many_windows")

        assert (refusal.details["windows"], refusal.details["limit"]) == ("6", "5")
        assert client.stats()["intents"] == 0
        assert len(published_files(tmp_path / "data")) == 5


@pytest.mark.parametrize("window", ["month", "year", "week", "1d", "366d"])
def test_windows_reach_from_the_year_3_to_9997(client: timestore.Client, window: str) -> None:
    """The first and the last instant that may come, leap days, and the years before 1970 are stored and found."""
    moments = [
        datetime(3, 1, 1, tzinfo=UTC),
        datetime(1900, 2, 28, 23, 59, 59, tzinfo=UTC),
        datetime(1968, 2, 29, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2000, 2, 29, 12, tzinfo=UTC),
        datetime(9997, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
    sent = pa.table({"ts": pa.array(moments, pa.timestamp("us", "UTC")), "row": range(6)})

    client.append("ages", sent, create={"window": window})

    assert client.read("ages").equals(sent)
    for row, moment in enumerate(moments):
        found = client.read("ages", start=moment, end=moment + timedelta(microseconds=1))
        assert found.column("row").to_pylist() == [row]


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("unit", UNITS)
def test_extreme_values_are_stored_or_refused(client: timestore.Client, unit: str, zone: str | None) -> None:
    """The smallest and the largest integers give rows that come back or a typed refusal: nothing wraps around."""
    type_ = pa.timestamp(unit, zone)
    for number, value in enumerate((-INT64, -INT64 + 1, INT64 - 2, INT64 - 1)):
        sent = _table([value], type_)
        if unit == "ns":
            client.append(f"t{number}", sent)
            assert client.read(f"t{number}").equals(sent)
        else:
            _refused(client, sent, "timestamp_out_of_bounds")


ZONE_PAIRS = [(None, "UTC"), ("UTC", None), ("UTC", "Etc/UTC"), ("UTC", "+00:00"), ("Europe/Berlin", "UTC")]


@pytest.mark.parametrize(("have", "sent"), ZONE_PAIRS)
def test_zones_never_mix(client: timestore.Client, have: str | None, sent: str | None) -> None:
    """A put in another zone, in one spelled otherwise, or without one, is refused before it sends data."""
    client.append("refused", _table([0], pa.timestamp("us", have)))

    refusal = _refused(client, _table([0], pa.timestamp("us", sent)), "schema_mismatch")

    assert refusal.details["column"] == "ts"
    assert client.describe("refused")["version"] == 1


def test_a_coarser_producer_of_an_ordered_dataset(client: timestore.Client) -> None:
    """After the timestamp column widened to microseconds, seconds still come in, and all rows are where they belong."""
    client.append("cpu", _table([86_399], pa.timestamp("s", "UTC")))
    client.append("cpu", _table([86_400 * 10**6], pa.timestamp("us", "UTC")))
    client.append("cpu", _table([86_400], pa.timestamp("s", "UTC")))

    read = client.read("cpu")

    assert read.schema.field("ts").type == pa.timestamp("us", "UTC")
    assert read.column("ts").cast(pa.int64()).to_pylist() == [86_399 * 10**6, 86_400 * 10**6, 86_400 * 10**6]
    assert client.read("cpu", start=datetime(1970, 1, 2, tzinfo=UTC)).num_rows == 2
    assert client.read("cpu", version=1).schema.field("ts").type == pa.timestamp("s", "UTC")
