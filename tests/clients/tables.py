"""A table that is hard to send: what other languages' encoders meet least often."""

from __future__ import annotations

import pyarrow as pa

from tests.fixtures.data import cpu_table

DAY_S = 86_400


def nested_table(*, day: int = 0) -> pa.Table:
    """Six rows of one day: a dictionary, lists of structs, maps, structs of lists, decimals, nulls at every level."""
    columns = {
        "ts": cpu_table(6, offset=day * DAY_S // 10).column("ts"),
        "kind": pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0, 2, 1], pa.int8()), [f"a{day}", "b", "c"]),
        "readings": pa.array(
            [[{"at": 1, "v": 1.5}], [], None, [{"at": 2, "v": None}, None], [{"at": 3, "v": 0.25}], []],
            pa.list_(pa.struct([("at", pa.int32()), ("v", pa.float64())])),
        ),
        "tags": pa.array(
            [[("x", 1)], [], None, [("y", None), ("z", 3)], [], [("w", 4)]], pa.map_(pa.string(), pa.int64())
        ),
        "place": pa.array(
            [{"lat": 1, "names": ["a", "b"]}, None, {"lat": None, "names": None}, {"lat": 2, "names": []}, None, None],
            pa.struct([("lat", pa.float32()), ("names", pa.list_(pa.string()))]),
        ),
        "amount": pa.array([1, None, 3, 4, 5, 6], pa.decimal128(12, 2)),
        "raw": pa.array([b"\0", None, b"", b"ab", b"c", b"\xff"], pa.binary()),
    }
    return pa.table(columns)
