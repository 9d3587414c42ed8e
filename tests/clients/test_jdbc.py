"""What tools see that come by the Flight SQL JDBC driver."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

import timestore
from tests.clients.programs import JDBC
from tests.fixtures.data import cpu_table

pytestmark = pytest.mark.toolchain


@pytest.mark.capability(JDBC.client, "reads")
def test_reads(server_url: str, client: timestore.Client) -> None:
    """A dataset of several days and appends is read with the values that it has."""
    days = [cpu_table(10_000, step_s=1, offset=day * 86_400) for day in range(3)]
    for day in days:
        client.append("cpu", day)

    printed = JDBC.run("sql", "SELECT * FROM cpu ORDER BY ts", "--url", server_url)

    read = pa.Table.from_pylist([json.loads(line) for line in printed.splitlines()])
    sent = pa.concat_tables(days)
    assert read.select(sent.column_names).cast(sent.schema).equals(sent)


def test_datasets_are_tables(server_url: str, client: timestore.Client) -> None:
    """The driver lists the datasets, with catalog and schema."""
    client.append("cpu", cpu_table(10))
    client.append("disk-io", cpu_table(10))

    printed = JDBC.run("tables", "--url", server_url)

    parts = ("TABLE_CAT", "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE")
    assert [tuple(json.loads(line)[part] for part in parts) for line in printed.splitlines()] == [
        ("timestore", "main", "cpu", "TABLE"),
        ("timestore", "main", "disk-io", "TABLE"),
    ]
