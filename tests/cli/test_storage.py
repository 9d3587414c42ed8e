"""``timestore storage``: what people type, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tests.fixtures.command_line import Run
from tests.fixtures.data import cpu_table


def test_from_a_test_to_a_dataset(timestore: Run, tmp_path: Path) -> None:
    """A place is tried, added, used by put and create, and listed."""
    place = str(tmp_path / "archive")
    pq.write_table(cpu_table(10), tmp_path / "rows.parquet")
    tried = timestore("storage", "test", place)
    steps = ["write", "read", "list", "create only if absent", "delete"]
    assert tried.out.splitlines() == [f"ok      {step}" for step in steps]
    assert timestore("storage", "add", "archive", place, "--json").document["added"] is True
    assert "was there already" in timestore("storage", "add", "archive", place).out
    timestore("put", str(tmp_path / "rows.parquet"), "--dataset", "cold", "--storage", "archive")
    schema = ("--schema-of", str(tmp_path / "rows.parquet"))
    created = timestore("create", "colder", *schema, "--storage", "archive", "--json").document
    assert created["storage"] == "archive"
    default, archive = timestore("storage", "list", "--json").lines
    assert (default["storage"], archive["storage"], archive["datasets"]) == ("default", "archive", 2)
    assert "file://" in timestore("storage", "list").out
    assert timestore("storage", "test", "archive", "--json").document["ok"] is True


def test_what_does_not_work_is_an_exit_code(timestore: Run, tmp_path: Path) -> None:
    """What fails a test has its reason and exit code 1; what is no target is refused; secrets are wrong usage."""
    (tmp_path / "file").write_bytes(b"")
    failed = timestore("storage", "test", str(tmp_path / "file"), code=1)
    assert failed.out.startswith("FAILED  write: ")
    assert "there are: 'default'" in timestore("storage", "test", "nowhere", code=4).err
    for arguments in (("s3://user:hunter2@bucket",), ("s3://bucket", "--option", "secret=hunter2")):
        refused = timestore("storage", "add", "archive", *arguments, code=2).err
        assert "credentials are never kept" in refused
        assert "hunter2" not in refused
