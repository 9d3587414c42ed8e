"""What a query's parse tree says: which result columns are columns of tables, and what parameters are compared with."""

from __future__ import annotations

import json
from collections.abc import Iterator

import duckdb
import pytest

from readers.sql_tree import origins, parameter_types, parameters

COLUMNS = {"cpu": ["ts", "usage", "tags"], "mem": ["ts", "free"]}
TS, USAGE, TAGS = ("cpu", "ts"), ("cpu", "usage"), ("cpu", "tags")


@pytest.fixture(name="duck", scope="module")
def _duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE cpu (ts TIMESTAMP, usage DOUBLE, tags STRUCT(usage INTEGER, host VARCHAR))")
        connection.execute("CREATE TABLE mem (ts TIMESTAMP, free BIGINT)")
        yield connection


def _tree(duck: duckdb.DuckDBPyConnection, query: str) -> dict[str, object]:
    [(text,)] = duck.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree: dict[str, object] = json.loads(text)
    assert not tree["error"], tree
    return tree


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("FROM cpu", [TS, USAGE, TAGS]),
        ("SELECT * FROM CPU WHERE usage > 1 ORDER BY ts LIMIT 5", [TS, USAGE, TAGS]),
        ("SELECT DISTINCT usage AS ts FROM cpu", [USAGE]),
        ("SELECT usage + 1 AS usage, ts, max(usage) FROM cpu GROUP BY ALL", [None, TS, None]),
        ("SELECT * EXCLUDE (usage) FROM cpu", [TS, TAGS]),
        ("SELECT c.*, m.free FROM cpu c JOIN mem m ON c.ts = m.ts", [TS, USAGE, TAGS, ("mem", "free")]),
        ("SELECT ts FROM cpu, mem m", [None]),  # of which of the two?
        ("SELECT cpu.ts, m.ts FROM cpu LEFT JOIN mem m ON true", [TS, ("mem", "ts")]),
        ("SELECT tags.usage, cpu.usage FROM cpu", [None, USAGE]),  # the first is a field
        ("SELECT q.u FROM (SELECT usage AS u, ts FROM cpu) q", [USAGE]),
        ("WITH q AS (SELECT ts, usage * 2 AS usage FROM cpu) SELECT usage, ts FROM q", [None, TS]),
        ("WITH cpu AS (SELECT 1 AS ts) SELECT ts FROM cpu", [None]),  # hides the dataset
        ("WITH cpu AS (SELECT 1 AS ts) SELECT ts FROM main.cpu", [TS]),
        ("SELECT ts FROM timestore.main.cpu", [TS]),
        ("SELECT x.* FROM timestore.main.cpu AS x", [TS, USAGE, TAGS]),
        ("SELECT (SELECT usage FROM cpu LIMIT 1), 1", [None, None]),
        ("SELECT usage FROM cpu a, (SELECT 1 AS usage) b", [None]),
    ],
)
def test_columns_that_are_columns(
    duck: duckdb.DuckDBPyConnection, query: str, expected: list[tuple[str, str] | None]
) -> None:
    """A result column has an origin exactly if it is a table's column, unchanged."""
    assert origins(_tree(duck, query), COLUMNS) == expected


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM cpu UNION ALL SELECT * FROM cpu",
        "SELECT * REPLACE (1 AS usage) FROM cpu",
        "SELECT COLUMNS('u.*') FROM cpu",
        "SELECT * FROM cpu JOIN mem USING (ts)",
        "SELECT * FROM cpu NATURAL JOIN mem",
        "SELECT * FROM cpu SEMI JOIN mem ON true",
        "SELECT ts FROM other.main.cpu",
        "SELECT ts FROM d0_0.cpu",
        "SELECT * FROM cpu AS c(a, b, d)",
        "WITH q(a) AS (SELECT ts FROM cpu) SELECT a FROM q",
        "SELECT unnest(tags) FROM cpu",
        "DESCRIBE cpu",
        "VALUES (1)",
        "FROM range(5)",
    ],
)
def test_what_is_unclear_has_no_origins(duck: duckdb.DuckDBPyConnection, query: str) -> None:
    """Where the text does not tell the columns for certain, none is taken for a table's."""
    assert origins(_tree(duck, query), COLUMNS) is None


def test_parameters_have_places(duck: duckdb.DuckDBPyConnection) -> None:
    """Each parameter is found where it stands, in bytes, whatever stands before it."""
    query = "SELECT 'ä?€', ? FROM cpu WHERE usage = $2 OR usage > $2 LIMIT ?"
    found = parameters(_tree(duck, query.replace("LIMIT ?", "LIMIT $3").replace(" ? FROM", " $1 FROM")))
    text = query.replace("LIMIT ?", "LIMIT $3").replace(" ? FROM", " $1 FROM").encode()
    assert [text[each.start : each.start + each.length] for each in found] == [b"$1", b"$2", b"$2", b"$3"]
    assert [each.identifier for each in found] == ["1", "2", "2", "3"]


def test_parameters_have_likely_types(duck: duckdb.DuckDBPyConnection) -> None:
    """A parameter has the type of the column that it is compared with or added to, or what the syntax says."""
    query = (
        "SELECT usage * ?, ts + ?, ?::INTEGER, ? FROM cpu WHERE ts BETWEEN ? AND ? AND usage IN (1, ?) AND ? < free "
        "LIMIT ? OFFSET ?"
    )
    types = {"ts": "TIMESTAMP", "usage": "DOUBLE", "free": "BIGINT"}
    assert parameter_types(_tree(duck, query), types) == {
        "1": "DOUBLE",
        "3": "INTEGER",
        "5": "TIMESTAMP",
        "6": "TIMESTAMP",
        "7": "DOUBLE",
        "8": "BIGINT",
        "9": "BIGINT",
        "10": "BIGINT",
    }
