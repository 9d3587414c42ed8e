"""What clients without our library do with a real server: the examples, as people run them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pytest

import timestore
from tests.clients.programs import Program, each, read_stream, write_stream
from tests.clients.tables import nested_table
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.server import wait_until

SENT = cpu_table(100_000, step_s=1)


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return write_stream(SENT, tmp_path / "sent.arrows")


@each("bulk put", "replay", "conflict")
def test_appended_once(program: Program, file: Path, tmp_path: Path, server_url: str, client: timestore.Client) -> None:
    """A file is appended with its key, and its receipt comes; again it is the same receipt, and nothing is added; other
    rows under its idempotency key are refused, by kind.
    """
    rest = ("--idempotency-key", "upload-17", "--key", "region=eu", "--url", server_url)

    first = program.run(*program.put, "cpu", file, *rest)
    again = program.run(*program.put, "cpu", file, *rest)
    other = program.refusal(*program.put, "cpu", write_stream(cpu_table(10), tmp_path / "other.arrows"), *rest)

    assert "(idempotency_conflict)" in other
    assert client.read("cpu").equals(SENT)
    [item, *_] = client.manifest("cpu")
    assert item["key"] == {"region": "eu"}
    kept = client.append("cpu", SENT, key={"region": "eu"}, idempotency_key="upload-17")
    assert kept.replayed
    assert kept.version == client.describe("cpu")["version"] == 1
    if program.speaks_sql:
        assert (first, again) == ("100000\n", "100000\n")
    else:
        receipt = json.loads(first)
        assert (receipt["type"], receipt["append_id"], receipt["rows"]) == ("receipt", kept.append_id, 100_000)
        assert json.loads(again) == receipt | {"replayed": True}


@each("refused schema")
def test_refused_schema(
    program: Program, file: Path, tmp_path: Path, server_url: str, client: timestore.Client
) -> None:
    """Rows that do not fit the dataset are refused by kind, and nothing is stored."""
    client.append("cpu", SENT)
    other = SENT.set_column(2, "usage", pa.array(["much"] * SENT.num_rows))
    rest = ("--idempotency-key", "upload-17", "--url", server_url)

    refused = program.refusal(*program.put, "cpu", write_stream(other, tmp_path / "other.arrows"), *rest)

    assert "(schema_mismatch)" in refused
    assert "'usage'" in refused
    assert client.describe("cpu")["version"] == 1


@each()
def test_refused_in_the_middle(program: Program, tmp_path: Path, server_url: str, client: timestore.Client) -> None:
    """A refusal that comes while much is still to be sent ends the program, by kind, and nothing is stored."""
    rows = [cpu_table(50_000, offset=1), cpu_table(10), *[cpu_table(100_000, offset=50_000)] * 10]
    file = write_stream(pa.concat_tables(rows), tmp_path / "unordered.arrows")

    refused = program.refusal(*program.put, "cpu", file, "--idempotency-key", "a", "--url", server_url)

    assert "(timestamp_unordered)" in refused
    wait_until(lambda: client.stats()["running_puts"] == 0)
    assert client.datasets() == []


@each()
def test_a_file_that_breaks_off(
    program: Program, file: Path, tmp_path: Path, server_url: str, client: timestore.Client
) -> None:
    """A file that cannot be read to its end is no append, however many of its batches were sent before."""
    broken = tmp_path / "broken.arrows"
    broken.write_bytes(file.read_bytes()[:-100_000])

    program.refusal(*program.put, "cpu", broken, "--idempotency-key", "a", "--url", server_url)

    wait_until(lambda: client.stats()["running_puts"] == 0)
    assert client.datasets() == []


@each("nested types", "dictionaries")
def test_nested_types_and_dictionaries(
    program: Program, tmp_path: Path, server_url: str, client: timestore.Client
) -> None:
    """Lists, structs, maps, decimals and dictionaries arrive as they are in the file, bit for bit."""
    sent = nested_table()
    file = write_stream(sent, tmp_path / "nested.arrows")

    program.run(*program.put, "nested", file, "--idempotency-key", "a", "--url", server_url)

    read = client.read("nested")
    assert read.schema.equals(sent.schema)
    assert read.equals(sent)


@each()
def test_dictionaries_that_change(program: Program, tmp_path: Path, server_url: str, client: timestore.Client) -> None:
    """A file whose second batch has another dictionary arrives with its own values, or is refused by the program."""
    sent = pa.concat_tables([nested_table(day=0), nested_table(day=1)])
    command = (*program.put, "nested", write_stream(sent, tmp_path / "two.arrows"))
    rest = ("--idempotency-key", "a", "--url", server_url)

    if program.one_dictionary:
        assert "a dictionary changes" in program.refusal(*command, *rest)
        assert client.datasets() == []
    else:
        program.run(*command, *rest)
        assert client.read("nested").column("kind").cast("string").equals(sent.column("kind").cast("string"))


@each("reads", gets=True)
def test_reads(program: Program, tmp_path: Path, server_url: str, client: timestore.Client) -> None:
    """A dataset of many endpoints, dictionaries and nested columns is read as it was appended."""
    days = [nested_table(day=day) for day in range(3)]
    for day in days:
        client.append("nested", day)

    program.run("get", "nested", tmp_path / "read.arrows", "--url", server_url)

    read = read_stream(tmp_path / "read.arrows")
    assert read.unify_dictionaries().equals(client.read("nested").unify_dictionaries())
    assert read.num_rows == sum(day.num_rows for day in days)


@each(gets=True)
def test_reads_an_empty_dataset(program: Program, tmp_path: Path, server_url: str, client: timestore.Client) -> None:
    """A dataset without rows has no endpoint, but columns."""
    client.create_dataset("nested", nested_table().schema)

    program.run("get", "nested", tmp_path / "read.arrows", "--url", server_url)

    assert read_stream(tmp_path / "read.arrows").equals(nested_table().slice(0, 0))


@each("SQL", asks=True)
def test_sql(program: Program, server_url: str, client: timestore.Client) -> None:
    """A query is answered, and a wrong one is told by kind."""
    client.append("cpu", cpu_table(1_000))
    client.append("nested", nested_table())

    row = program.run(program.ask, "SELECT count(*) AS n, max(host) AS last FROM cpu", "--url", server_url)
    nested = program.run(program.ask, "SELECT place, kind FROM nested ORDER BY ts LIMIT 1", "--url", server_url)
    wrong = program.refusal(program.ask, "SELECT absent FROM nested", "--url", server_url)

    assert json.loads(row) == {"n": 1_000, "last": "host-9"}
    assert json.loads(nested) == {"place": {"lat": 1, "names": ["a", "b"]}, "kind": "a0"}
    assert "(query_invalid)" in wrong


@each("killed client leaves nothing")
def test_killed_client_leaves_nothing(
    program: Program, file: Path, tmp_path: Path, server_url: str, client: timestore.Client
) -> None:
    """A client that is killed in the middle of its stream leaves no dataset, no file, no intent, and its key free."""
    rest = ("--idempotency-key", "upload-17", "--url", server_url)
    with _endless(file, tmp_path / "pipe") as pipe:
        process = program.start(*program.put, "cpu", pipe, *rest)
        try:
            wait_until(lambda: process.poll() is not None or client.stats()["buffered_bytes"] > 0)
            assert process.poll() is None
        finally:
            process.kill()
            process.communicate()
    wait_until(lambda: client.stats()["running_puts"] == 0)

    assert client.datasets() == []
    assert published_files(tmp_path) == []
    assert client.stats()["intents"] == 0
    assert client.stats()["buffered_bytes"] == 0
    program.run(*program.put, "cpu", file, *rest)
    assert client.read("cpu").equals(SENT)


@contextmanager
def _endless(file: Path, pipe: Path) -> Iterator[Path]:
    """A pipe from which a file's batches come, but never its end."""
    os.mkfifo(pipe)
    over = threading.Event()

    def feed() -> None:
        with suppress(BrokenPipeError), pipe.open("wb") as writer:
            writer.write(file.read_bytes()[:-8])  # without the sign that an Arrow stream ends with
            writer.flush()
            over.wait()

    feeding = threading.Thread(target=feed, name="pipe")
    feeding.start()
    try:
        yield pipe
    finally:
        over.set()
        feeding.join()
