"""Whatever datasets, key parts and values are called: no path is left, no file is shared, all rows come back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.files import manifest_paths, published_files
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import ServerProcess
from timestore.errors import InvalidInputError, TimestoreError

SENT = cpu_table(1)
VALUES = [
    "..", ".", "/", "//", "../../etc/passwd", "\\", "..\\..", "%2e", "%2E", "%2e%2e", "%2F", "%252F", "%", "%00",
    "a b", "a_b", "a%20b", "a+b", "a", "A", "\u0430", "\uff41", "\u00e9", "e", "K", "\u212a".lower(), "~", "~root",
    ".hidden", "trailing.", "trailing ", " ", "con", "CON", "nul.txt", "aux", "LPT1", "C:", "a:b", "a*", "?", "|", '"',
    "$HOME", "`id`", "$(id)", "';--", "\u202etxt.exe", "a\u200f", "a\u200b", "\ufeffa", "\U0001f600", "=", "a=b",
    "k=v/l=w", "x" * 256, "x" * 255 + "y", "\u00e4" * 128, "\u00e4" * 127 + "\u00f6", "20260101T000000Z", "x.duckdb",
]  # fmt: skip
REFUSED_VALUES = ["", "\0", "a\0b", "a\nb", "\r", "\x1b[2J", "\x85", "e\u0301", "\u212b", "x" * 257, "\u00e4" * 150]
REFUSED_NAMES = [
    "", ".", "..", "/", "a/b", "../a", "a\\b", "%2e", "a%2Fb", "a.b", "a b", "a\0", "a\n", "~", "-a", "_a", "1a", "a=b",
    "\u0430bc", "\uff41bc", "e\u0301", "\u00e9", "a\u200f", "x" * 129, "x" * 300, "C:", "a*", "a?",
]  # fmt: skip


def _files(tmp_path: Path) -> set[Path]:
    """Every file there is, but for the server's own directory and the horizon of its catalog."""
    its_own = {tmp_path / "server0", tmp_path / "data" / "timestore.horizon"}
    return {path for path in tmp_path.rglob("*") if path.is_file() and its_own.isdisjoint(path.parents)}


def test_any_value_has_files_of_its_own(client: timestore.Client, tmp_path: Path) -> None:
    """Each value that is allowed gives one file inside the root, which only its rows are in."""
    for number, value in enumerate(VALUES):
        client.append("cpu", cpu_table(1, offset=number), key={"k": value})

    root = tmp_path / "data"
    published = [path for path in published_files(root) if path.is_file()]  # a directory has the name x.duckdb
    assert len(published) == len(VALUES)
    assert _files(tmp_path) == {*published, root / "timestore.json"}
    assert all(path.parents[2] == root / "cpu" for path in published)
    assert all(len(os.fsencode(part)) <= 255 for path in published for part in path.parts)
    for number, value in enumerate(VALUES):
        rows = client.read("cpu", key={"k": value}, with_key=True)
        assert rows["k"].to_pylist() == [value]
        assert rows.drop_columns("k").equals(cpu_table(1, offset=number))
        [path] = manifest_paths(client, "cpu", key={"k": value})
        assert path in published


def test_any_name_has_directories_of_its_own(client: timestore.Client, tmp_path: Path) -> None:
    """Datasets and parts of keys may be named like devices or options; each has a directory of its own."""
    names = ["con", "nul", "aux", "lost-found", "staging", "data", "z" * 128, "a-b", "a_b", "ab", "VERSION"]
    for name in names:
        client.append(name, SENT, key={name: name})
        assert client.read(name).equals(SENT)
    paths = published_files(tmp_path / "data")
    assert sorted(path.relative_to(tmp_path / "data").parts[:2] for path in paths) == sorted(
        (name, f"{name}={name}" if len(name) < 100 else next(p.parts[-3] for p in paths if name in p.parts))
        for name in names
    )


SPELLINGS: dict[str, Callable[[str, dict[str, str]], flight.FlightDescriptor]] = {
    "CMD": lambda dataset, key: command(dataset=dataset, key=key),
    "PATH": lambda dataset, key: flight.FlightDescriptor.for_path(dataset, *(f"{n}={v}" for n, v in key.items())),
}


def _put(url: str, descriptor: flight.FlightDescriptor, headers: dict[str, str] | None = None) -> TimestoreError:
    put = RawPut(url, descriptor, SENT.schema, headers)
    with pytest.raises(InvalidInputError) as caught:
        put.finish()
    return caught.value


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_names_are_refused(client: timestore.Client, server_url: str, tmp_path: Path, spelling: str) -> None:
    """Names and values that are not allowed are `name_invalid` in every spelling; nothing is written anywhere."""
    describe = SPELLINGS[spelling]
    for name in REFUSED_NAMES:
        assert _put(server_url, describe(name, {})).kind == "name_invalid", name
        if "=" not in name or spelling == "CMD":
            assert _put(server_url, describe("cpu", {name: "x"})).kind == "name_invalid", name
    for value in REFUSED_VALUES:
        assert _put(server_url, describe("cpu", {"k": value})).kind == "name_invalid", value
        header = {"x-timestore-key": json.dumps({"k": value})}
        assert _put(server_url, describe("cpu", {}), header).kind == "name_invalid", value
    for name in REFUSED_NAMES:
        with pytest.raises(InvalidInputError, match="name_invalid"):
            client.create_dataset(name, SENT.schema)
    assert client.datasets() == []
    assert _files(tmp_path) == {tmp_path / "data" / "timestore.json"}


def test_case_does_not_make_another_dataset(client: timestore.Client, tmp_path: Path) -> None:
    """A dataset that differs only in case is refused, for a file system might not tell them apart."""
    client.append("cpu", SENT)
    for call in (lambda: client.append("CPU", SENT), lambda: client.append("Cpu", SENT, key={})):
        with pytest.raises(InvalidInputError, match="differs only in case"):
            call()
    assert {path.relative_to(tmp_path / "data").parts[0] for path in published_files(tmp_path)} == {"cpu"}


def test_the_longest_key_lands_and_comes_back(client: timestore.Client, tmp_path: Path) -> None:
    """The longest dataset name with the longest key is stored, read and told from its neighbour."""
    names = [f"{chr(ord('a') + number)}{'k' * 127}" for number in range(16)]
    keys = [dict.fromkeys(names, "\u00e4" * 128), dict.fromkeys(names, "\u00e4" * 127 + "\u00f6")]
    for number, key in enumerate(keys):
        client.append("d" * 128, cpu_table(1, offset=number), key=key)
    for number, key in enumerate(keys):
        assert client.read("d" * 128, key=key).equals(cpu_table(1, offset=number))
    relative = [str(path.relative_to(tmp_path / "data")) for path in published_files(tmp_path)]
    assert len(relative) == 2
    assert all(len(path) < 900 for path in relative)


def test_a_deep_root_has_room_for_the_longest_key(server_process: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """Under a root as long as is allowed the longest key still fits into what Linux takes; beyond, the start fails."""
    root = tmp_path
    while len(os.fsencode(root)) < 2_980 - 201:
        root /= "r" * 200
    root /= "r" * (2_999 - len(os.fsencode(root)))
    root.mkdir(parents=True)
    server = server_process("--storage-url", str(root))
    with timestore.connect(server.url) as client:
        key = {f"{chr(ord('a') + number)}{'k' * 127}": "\u00e4" * 128 for number in range(16)}
        client.append("d" * 128, SENT, key=key)
        assert client.read("d" * 128).equals(SENT)
    server.kill()
    with pytest.raises(AssertionError, match="at most 3000 leave room"):
        server_process("--storage-url", f"{root}xx", data_dir=tmp_path / "other")


def test_an_error_message_shows_hostile_names_escaped(server_url: str) -> None:
    """A refusal quotes a name in plain ASCII, so that no terminal or log is played tricks on."""
    for name in ("\x1b[31mred", "\u202eevil", "a\nFAKE LOG LINE", "\u0430"):
        failure = _put(server_url, command(dataset=name))
        assert failure.message.isascii()
        assert failure.message.isprintable()


def test_columns_may_be_called_anything(client: timestore.Client) -> None:
    """Column names never reach a path, nor SQL as text."""
    names = ["..", "/", "a b", '"', "'; DROP TABLE data; --", "\u202e", "data", "rowid", "x" * 300, "\u00e9", "e\u0301"]
    sent = SENT
    for name in names:
        sent = sent.append_column(name, pa.array([1]))
    client.append("cpu", sent)
    assert client.read("cpu").equals(sent)
