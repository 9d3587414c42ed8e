"""The table of types says what the code does: every type of pyarrow is in it, with its form or as refused."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from readers.forms import storage_form
from readers.forms.refusals import find_refused

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "types.md"
REFUSED = "refused"
UNREADABLE = {"month_interval", "day_time_interval"}  # pyarrow cannot make them
MEMBERS = [pa.field("a", pa.int8())]

# By their names in the table. T is an int8, K a string, p and s are 7 and 3, n is 2, the zone is Europe/Berlin.
TYPES = {
    "null": pa.null(),
    "bool": pa.bool_(),
    **{str(each): each for each in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(each): each for each in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "decimal32(p, s)": pa.decimal32(7, 3),
    "decimal64(p, s)": pa.decimal64(7, 3),
    "decimal128(p, s)": pa.decimal128(7, 3),
    "decimal256(p, s)": pa.decimal256(7, 3),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "time32[s]": pa.time32("s"),
    "time32[ms]": pa.time32("ms"),
    "time64[us]": pa.time64("us"),
    "time64[ns]": pa.time64("ns"),
    **{f"timestamp[{unit}]": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"timestamp[{unit}, zone]": pa.timestamp(unit, "Europe/Berlin") for unit in ("s", "ms", "us", "ns")},
    **{f"duration[{unit}]": pa.duration(unit) for unit in ("s", "ms", "us", "ns")},
    "month_day_nano_interval": pa.month_day_nano_interval(),
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "binary_view": pa.binary_view(),
    "fixed_size_binary[n]": pa.binary(2),
    "list<T>": pa.list_(pa.int8()),
    "large_list<T>": pa.large_list(pa.int8()),
    "list_view<T>": pa.list_view(pa.int8()),
    "large_list_view<T>": pa.large_list_view(pa.int8()),
    "fixed_size_list<T>[n]": pa.list_(pa.int8(), 2),
    "struct<a: T>": pa.struct(MEMBERS),
    "map<K, T>": pa.map_(pa.string(), pa.int8()),
    "dictionary<T>": pa.dictionary(pa.int32(), pa.int8()),
    "run_end_encoded<T>": pa.run_end_encoded(pa.int32(), pa.int8()),
    "extension<T>": pa.opaque(pa.int8(), "type", "vendor"),
    "dense_union": pa.dense_union(MEMBERS),
    "sparse_union": pa.sparse_union(MEMBERS),
}
MEANINGS = {"T": "TINYINT", "K": "VARCHAR", "p": "7", "s": "3"}


def _documented() -> dict[str, str]:
    """What the table says of each type: the DuckDB type, or that it is refused."""
    forms: dict[str, str] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            names, form = line.split("|")[1:3]
            forms.update(dict.fromkeys(re.findall(r"`([^`]+)`", names), form.strip(" `")))
    return forms


def test_every_type_of_pyarrow_is_in_the_table() -> None:
    """The table has a row for each type that pyarrow can make, and no other but those that only others can make."""
    assert set(_documented()) == set(TYPES) | UNREADABLE
    known = {value for name, value in vars(pa.lib).items() if name.startswith("Type_")}
    assert known - {each.id for each in TYPES.values()} == {pa.lib.Type_INTERVAL_MONTHS, pa.lib.Type_INTERVAL_DAY_TIME}


@pytest.mark.parametrize("name", TYPES)
def test_the_documented_form_is_the_form(name: str) -> None:
    """What the table says a type is stored as is what files hold; what it says is refused is refused."""
    documented = _documented()[name]
    form, refused = storage_form(TYPES[name]), find_refused(pa.field("x", TYPES[name]))
    if documented == REFUSED:
        assert (form, refused is not None) == (None, True)
    else:
        assert refused is None
        assert form is not None
        assert re.sub(r"\b[TKps]\b", lambda match: MEANINGS[match[0]], documented) == form.sql_type


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_intervals_that_pyarrow_cannot_read_are_refused(name: str) -> None:
    """They are documented as refused: pyarrow has no type for them."""
    assert _documented()[name] == REFUSED
    assert not hasattr(pa, name)
