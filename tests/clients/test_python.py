"""What our client does for those who use it, with tables, pandas frames and polars frames."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import timestore
from tests.clients.tables import nested_table
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.server import same_user_environment, wait_until
from timestore.errors import ConflictError, InvalidInputError

FRAMES: dict[str, Callable[[pa.Table], Any]] = {
    "timestore": lambda table: table,
    "pandas": lambda table: table.to_pandas(),
    "polars": pl.DataFrame,
}


def _each(*capabilities: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[pytest.mark.capability(name, capability) for capability in capabilities])
            for name in FRAMES
        ],
    )


@_each("bulk put", "replay", "conflict", "refused schema", "reads")
def test_frames_are_appended_once(name: str, client: timestore.Client) -> None:
    """A frame is appended once and read back equal; other rows, and columns that do not fit, are typed errors."""
    frame = FRAMES[name](cpu_table(100_000, step_s=1))

    first = client.append("cpu", frame, key={"region": "eu"}, idempotency_key="a")
    again = client.append("cpu", frame, key={"region": "eu"}, idempotency_key="a")
    with pytest.raises(ConflictError, match="idempotency_conflict"):
        client.append("cpu", frame[:10], key={"region": "eu"}, idempotency_key="a")
    with pytest.raises(InvalidInputError, match="schema_mismatch"):
        client.append("cpu", FRAMES[name](pa.table({"host": [1]})), key={"region": "eu"})

    assert (first.replayed, again.replayed) == (False, True)
    assert client.describe("cpu")["version"] == first.version == 1
    _assert_equal(FRAMES[name](client.read("cpu")), frame)


def _assert_equal(read: Any, sent: Any) -> None:
    if isinstance(sent, pd.DataFrame):
        pd.testing.assert_frame_equal(read, sent)
    else:
        assert read.equals(sent)


@pytest.mark.capability("timestore", "nested types")
@pytest.mark.capability("timestore", "dictionaries")
def test_nested_types_and_dictionaries(client: timestore.Client) -> None:
    """The table that other languages are tried with arrives from ours, too."""
    client.append("nested", nested_table())

    assert client.read("nested").equals(nested_table())


@pytest.mark.capability("timestore", "SQL")
def test_sql(client: timestore.Client) -> None:
    """Our client asks questions in SQL."""
    client.append("cpu", cpu_table(1_000))

    assert client.sql("SELECT count(*) AS n FROM cpu").column("n").to_pylist() == [1_000]


@pytest.mark.capability("timestore", "killed client leaves nothing")
def test_killed_client_leaves_nothing(server_url: str, client: timestore.Client, tmp_path: Path) -> None:
    """Our client, killed while it appends what comes from a generator, leaves nothing, and its key free."""
    script = f"""
import sys, time, timestore
from tests.fixtures.data import cpu_table
def batches():
    yield cpu_table(20_000)
    print("sent", flush=True)
    sys.stdin.read()
timestore.connect({server_url!r}).append("cpu", batches(), idempotency_key="a")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=same_user_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        wait_until(lambda: client.stats()["running_puts"] == 1)
        process.kill()
    wait_until(lambda: client.stats()["running_puts"] == 0)

    assert client.datasets() == []
    assert published_files(tmp_path) == []
    assert client.stats()["intents"] == 0
    assert not client.append("cpu", cpu_table(20_000), idempotency_key="a").replayed
