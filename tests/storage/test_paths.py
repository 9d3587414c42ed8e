"""Paths of data files: inside the root, one directory per partition, names that any file system takes."""

import posixpath
import unicodedata
from urllib.parse import quote, unquote
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.paths import MAX_KEY_BYTES, MAX_PATH_BYTES, data_file_path
from timestore.names import MAX_KEY_PARTS, PartitionKey
from timestore.windows import MAX_INSTANT_S, MIN_INSTANT_S, TimeWindow, WindowLength

FILE_ID = UUID("01890000-0000-7000-8000-000000000000")
DAY = WindowLength.parse("1d").containing(0)

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,127}", fullmatch=True)
TRICKY = st.sampled_from(
    [
        "a",
        "A",
        "\u0430",  # Cyrillic a
        "\uff21",  # full-width A
        "\u00e9",
        "a\u200f",
        "\u202etxt.exe",
        ".hidden",
        "trailing.",
        "trailing ",
        "%2F",
        "%252F",
        "nul.txt",
        "20260101T000000Z",
        "~0123456789abcdef0123456789abcdef",
        "x" * 200,
        "x" * 256,
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
    assert len(path.split("/")) == len(parts) + 3 or "/~" in path
    assert len(path) <= MAX_PATH_BYTES


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
    if set(value) <= kept - {"~"} and len(value) < 190:
        assert part == f"k={value}"


@pytest.mark.parametrize("value", ["x" * 256, "ä" * 128, "\U0001f600" * 64, "." * 256, "%" * 256])
def test_the_longest_values_make_short_parts(value: str) -> None:
    """A part over 200 bytes is cut and hashed, as object stores and encrypted file systems ask."""
    assert all(len(part) <= 200 for part in _path({"a" * 128: value}).split("/"))


@settings(deadline=None)
@given(one=PARTS, other=PARTS, datasets=st.tuples(NAMES, NAMES))
def test_files_are_not_shared_where_case_is_ignored(
    one: dict[str, str], other: dict[str, str], datasets: tuple[str, str]
) -> None:
    """On a file system that ignores case, keys may share a directory; files never: their ids differ.

    What has the same directory there differs in case alone, so it is of one dataset: names are unique ignoring case.
    """
    paths = [
        data_file_path(dataset=dataset, key=PartitionKey.parse(parts), window=DAY, file_id=file_id).lower()
        for dataset, parts, file_id in zip(datasets, (one, other), (FILE_ID, UUID(int=FILE_ID.int + 1)), strict=True)
    ]
    assert paths[0] != paths[1]
    if paths[0].rpartition("/")[0] == paths[1].rpartition("/")[0]:
        assert datasets[0].lower() == datasets[1].lower()
        assert _ignoring_case(one) == _ignoring_case(other)


def _ignoring_case(parts: dict[str, str]) -> dict[str, str]:
    return {name.lower(): quote(value).lower() for name, value in parts.items()}


@settings(deadline=None)
@given(parts=PARTS)
def test_a_path_can_be_read_back(parts: dict[str, str]) -> None:
    """Every part that was not cut says what it was made of."""
    directories = _path(parts).split("/")[1:-2]
    if not any("~" in directory for directory in directories):
        assert dict(unquote(directory).split("=", 1) for directory in directories) == dict(sorted(parts.items()))


LONGEST = {f"{chr(ord('a') + n)}{'k' * 127}": "\u00e4" * 128 for n in range(MAX_KEY_PARTS)}


def test_the_longest_key_fits() -> None:
    """The longest dataset and key make a path that object stores take, and Linux under a root of 3000 bytes."""
    path = _path(LONGEST, dataset="d" * 128)
    assert len(path) <= MAX_PATH_BYTES < 900
    assert _is_safe(path)


@pytest.mark.parametrize("name", sorted(LONGEST))
def test_long_keys_stay_apart(name: str) -> None:
    """Keys that differ only in what was cut off have directories of their own."""
    assert _path(LONGEST | {name: "\u00e4" * 127 + "o"}) != _path(LONGEST)
    assert _path({other: value for other, value in LONGEST.items() if other != name}) != _path(LONGEST)


def test_no_key_imitates_a_long_one() -> None:
    """The hash of a long key stands where no part of a key can: parts begin with a letter."""
    directories = _path(LONGEST).split("/")[1:-2]
    assert [directory for directory in directories if not directory[0].isalpha()] == [directories[-1]]
    assert len("/".join(directories)) <= MAX_KEY_BYTES
