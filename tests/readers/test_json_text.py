"""Values as JSON text."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from readers.json_text import json_text, json_values

NS = 1_700_000_000_000_000_001
TIME = "2023-11-14T22:13:20.000000001"


@pytest.mark.parametrize(
    ("type_", "value", "spelled"),
    [
        (pa.timestamp("ns", "UTC"), NS, f"{TIME}+00:00"),
        (pa.timestamp("ns", "Europe/Berlin"), NS, f"{TIME}+00:00"),
        (pa.timestamp("ns"), NS, TIME),
        (pa.timestamp("us", "UTC"), NS // 1000, "2023-11-14T22:13:20+00:00"),
        (pa.time64("ns"), 1_000_000_001, "00:00:01.000000001"),
        (pa.duration("ns"), 1_500_000_001, 1.500000001),
        (pa.duration("us"), 1_500_000, 1.5),
    ],
)
def test_times_of_any_unit_at_any_depth(type_: pa.DataType, value: int, spelled: object) -> None:
    """Also to the nanosecond, which Python itself cannot hold."""
    leaf = pa.array([value, None], pa.int64()).cast(type_)
    nested = pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 1, 2], leaf)], names=["a"])

    assert _spelled(leaf) == [spelled, None]
    assert _spelled(nested) == [{"a": [spelled]}, {"a": [None]}]
    assert _spelled(nested.slice(1)) == [{"a": [None]}]


def test_null_lists_and_maps_stay() -> None:
    """A null is a null, whatever is beside it."""
    maps = pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.duration("ns")))
    fixed = pa.array([[1, 2], None], pa.list_(pa.time64("ns"), 2))

    assert _spelled(maps) == [[["k", 1e-9]], None, []]
    assert _spelled(fixed) == [["00:00:00.000000001", "00:00:00.000000002"], None]


def test_it_needs_no_pandas() -> None:
    """A server has none; pyarrow would take it for nanoseconds."""
    script = """
import sys

class NoPandas:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoPandas())
import pyarrow as pa
from readers.json_text import json_values
json_values(pa.array([1], pa.duration("ns")))
json_values(pa.array([[1]], pa.list_(pa.timestamp("ns"))))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr


def _spelled(column: pa.Array) -> list[Any]:
    return [json.loads(json_text(value)) for value in json_values(column)]
