"""Paths of data files: inside the root, one directory per partition, names that any file system takes."""

import posixpath
import unicodedata
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.paths import data_file_path
from timestore.names import MAX_KEY_PARTS, PartitionKey
from timestore.windows import MAX_INSTANT_S, MIN_INSTANT_S, TimeWindow, WindowLength

FILE_ID = UUID("01890000-0000-7000-8000-000000000000")
DAY = WindowLength.parse("1d").containing(0)

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,127}", fullmatch=True)
TRICKY = st.sampled_from(
    [
        ".",
        "..",
        "../..",
        "/",
        "\\",
        "%2e",
        "%2E%2e",
        "~",
        "a b",
        "a_b",
        "a+b",
        "a%20b",
        "CON",
        "-",
        "*",
        "=",
        "a=b",
        " ",
        "?",
    ]
)
TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S", "Z", "Cf"]), min_size=1, max_size=20)
VALUES = (TEXTS | TRICKY).map(lambda text: unicodedata.normalize("NFC", text))
PARTS = st.dictionaries(NAMES.map(str.lower), VALUES, max_size=3)
WINDOWS = st.builds(
    lambda text, instant_s: WindowLength.parse(text).containing(instant_s),
    st.sampled_from(["1m", "1h", "1d", "week", "month", "year"]),
    st.integers(MIN_INSTANT_S, MAX_INSTANT_S - 1),
)


def _path(parts: dict[str, str], *, dataset: str = "cpu", window: TimeWindow = DAY) -> str:
    return data_file_path(dataset=dataset, key=PartitionKey.parse(parts), window=window, file_id=FILE_ID)


def _is_safe(path: str) -> bool:
    parts = path.split("/")
    return posixpath.normpath(f"/store/{path}") == f"/store/{path}" and all(
        0 < len(part.encode()) <= 255 for part in parts
    )


@settings(deadline=None)
@given(dataset=NAMES, parts=PARTS, window=WINDOWS)
@example(dataset="a", parts={"k": ".."}, window=DAY)
@example(dataset="a" * 128, parts={"b" * 128: "ä" * 128}, window=DAY)
@example(dataset="a", parts={f"k{n:02}": "/" * 256 for n in range(MAX_KEY_PARTS)}, window=DAY)
def test_a_path_stays_inside_the_root(dataset: str, parts: dict[str, str], window: TimeWindow) -> None:
    """Whatever is in the key, no part of the path is empty, ``.``, ``..`` or too long, and none adds a level."""
    path = _path(parts, dataset=dataset, window=window)
    assert _is_safe(path)
    assert path.isascii()
    assert path.split("/")[0] == dataset
    assert path.split("/")[-2:] == [window.path_part, f"{FILE_ID}.duckdb"]
    assert len(path.split("/")) == len(parts) + 3


@settings(deadline=None)
@given(one=PARTS, other=PARTS)
@example(one={"k": "a b"}, other={"k": "a_b"})
@example(one={"k": "a b"}, other={"k": "a+b"})
@example(one={"k": "a b"}, other={"k": "a%20b"})
@example(one={"k": "."}, other={"k": "%2e"})
@example(one={"k": "."}, other={"k": "%2E"})
@example(one={"k": "/"}, other={"k": "%2F"})
@example(one={"k": "A"}, other={"k": "a"})
@example(one={"k": "a"}, other={"k": "\u0430"})  # Cyrillic
@example(one={"k": "K"}, other={"k": "\uff2b"})  # full width
@example(one={"k": "x" * 256}, other={"k": "x" * 255 + "y"})
@example(one={"k": "x" * 256}, other={"k": "x" * 255})
@example(one={"k": "ä" * 128}, other={"k": "ä" * 127 + "ö"})
@example(one={"a": "1/b=2"}, other={"a": "1", "b": "2"})
@example(one={"a": "1"}, other={})
def test_different_keys_have_different_directories(one: dict[str, str], other: dict[str, str]) -> None:
    """Two keys share a directory only if they are equal."""
    assert (_path(one) == _path(other)) == (one == other)


def test_no_value_imitates_a_long_one() -> None:
    """A long part is cut and hashed; nobody can name a short value so that it takes the same directory."""
    long = {"k": "x" * 256}
    cut = _path(long).split("/")[1]
    assert _path({"k": cut.removeprefix("k=")}) != _path(long)


@settings(deadline=None)
@given(dataset=NAMES, value=VALUES, window=WINDOWS)
def test_a_path_reads_like_its_partition(dataset: str, value: str, window: TimeWindow) -> None:
    """Plain values stand in the path as they are, and everything else only percent-encoded."""
    kept = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-~")
    part = _path({"k": value}, dataset=dataset, window=window).split("/")[1]
    assert set(part) <= kept | {"%", "="}
    if set(value) <= kept - {"~"}:
        assert part == f"k={value}"


@pytest.mark.parametrize("value", ["x" * 256, "ä" * 128, "\U0001f600" * 64, "." * 256, "%" * 256])
def test_the_longest_values_make_short_parts(value: str) -> None:
    """A part over 200 bytes is cut and hashed, as object stores and encrypted file systems ask."""
    assert all(len(part) <= 200 for part in _path({"a" * 128: value}).split("/"))
