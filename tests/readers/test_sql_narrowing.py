"""Which files a query needs, as DuckDB tells from their keys and times: never one too few."""

from __future__ import annotations

from contextlib import closing

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readers.forms import storage_form
from readers.sql_process import find_needed
from readers.sql_views import FileExtent, stand_in_statements
from timestore.windows import parse_instant

SCHEMA = pa.schema([("ts", pa.timestamp("us", "UTC")), ("v", pa.int64()), ("host", pa.string())])
DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
KEYS = [{"region": region, "site": site} for region, site in (("eu", "1"), ("eu", "2"), ("it's", "1"))]
FILES = [(day, key) for day in DAYS for key in KEYS]
HOURS = (6, 12, 18)  # when each file has rows


def _ns(text: str) -> int:
    return int(parse_instant(text).timestamp()) * 1_000_000_000


def _needed(query: str) -> set[str]:
    extents = [
        FileExtent(key=key, min_ts_ns=_ns(f"{day}T06:00:00Z"), max_ts_ns=_ns(f"{day}T18:00:00Z")) for day, key in FILES
    ]
    statements = list(stand_in_statements("cpu", SCHEMA, ["region", "site"], "ts", extents, alias="f"))
    with closing(_connect()) as connection:
        return set(find_needed(connection, [query], [], statements))


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _result(query: str, files: set[str]) -> list[tuple[object, ...]]:
    """What a query gives over some of the files."""
    with closing(_connect()) as connection:
        parts = [
            "SELECT NULL::TIMESTAMPTZ AS ts, NULL::BIGINT AS v, NULL AS host, '' AS region, '' AS site WHERE false"
        ]
        for number, (day, key) in enumerate(FILES):
            rows = ", ".join(
                f"('{day} {hour:02}:00:00+00', {'NULL' if hour == 12 else hour + number}, 'host-{hour}')"
                for hour in HOURS
            )
            region = key["region"].replace("'", "''")
            if f"f{number}" in files:
                parts.append(
                    f"SELECT ts::TIMESTAMPTZ, v, host, '{region}', '{key['site']}' FROM (VALUES {rows}) t(ts, v, host)"
                )
        connection.execute(f"CREATE TEMP VIEW cpu AS {' UNION ALL '.join(parts)}")
        return sorted(connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM ({query})").fetchall(), key=repr)


ALL = {f"f{number}" for number in range(len(FILES))}

MOMENTS = st.sampled_from([f"{day} {hour}" for day in DAYS for hour in ("00:00", "06:00", "13:30", "18:00")])
COMPARED = st.sampled_from(["<", "<=", "=", "<>", ">=", ">"])
ATOMS = st.one_of(
    st.builds("{t}.ts {} TIMESTAMPTZ '{}'".format, COMPARED, MOMENTS, t=st.just("{t}")),
    st.builds("{t}.ts BETWEEN '{}' AND '{}'".format, MOMENTS, MOMENTS, t=st.just("{t}")),
    st.builds("{t}.region {} '{}'".format, COMPARED, st.sampled_from(["eu", "it''s", "no"]), t=st.just("{t}")),
    st.builds("{t}.site {} '{}'".format, COMPARED, st.sampled_from("123"), t=st.just("{t}")),
    st.builds("{t}.v {} {}".format, COMPARED, st.sampled_from([6, 12, 20]), t=st.just("{t}")),
    st.sampled_from(
        [
            "{t}.v IS NULL",
            "{t}.v IS NOT NULL",
            "{t}.region IN ('eu', 'no')",
            "{t}.region || {t}.site = 'eu2'",
            "{t}.ts::DATE = '2026-01-02'",
            "date_trunc('day', {t}.ts) >= '2026-01-02'",
            "hour({t}.ts) = 12",
            "{t}.ts < now()",
            "{t}.ts = (SELECT max(x.ts) FROM cpu x WHERE x.region = {t}.region)",
            "EXISTS (FROM cpu x WHERE x.ts > {t}.ts AND x.site = '2')",
            "{t}.v NOT IN (SELECT x.v FROM cpu x WHERE x.v IS NOT NULL AND x.ts > '2026-01-03')",
        ]
    ),
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        inner.map("(NOT {})".format),
    ),
    max_leaves=4,
)
SHAPES = st.sampled_from(
    [
        "SELECT * FROM cpu a WHERE {0}",
        "SELECT count(*), min(ts), max(v) FROM cpu a WHERE {0}",
        "SELECT region, count(*) FROM cpu a GROUP BY ALL HAVING min(a.ts) > '2026-01-01' AND count(*) > 3",
        "SELECT * FROM cpu a WHERE {0} ORDER BY ts DESC, region, site LIMIT 2",
        "SELECT a.*, b.v FROM cpu a JOIN cpu b USING (ts) WHERE {0} AND {1}",
        "SELECT a.*, b.v FROM cpu a LEFT JOIN cpu b ON a.ts = b.ts AND {1} WHERE {0}",
        "SELECT a.ts, b.ts FROM cpu a FULL JOIN cpu b ON a.ts = b.ts AND a.site = b.site AND {0} AND {1}",
        "SELECT * FROM cpu a ANTI JOIN cpu b ON a.site = b.site AND {1} WHERE {0}",
        "SELECT a.ts, b.v FROM cpu a ASOF JOIN cpu b ON a.site = b.site AND a.ts >= b.ts WHERE {0}",
        "SELECT * FROM cpu a WHERE {0} UNION ALL SELECT * FROM cpu b WHERE {1}",
        "SELECT * FROM cpu a WHERE {0} EXCEPT SELECT * FROM cpu b WHERE {1}",
        "WITH c AS MATERIALIZED (SELECT * FROM cpu a WHERE {0}) SELECT * FROM c, c d WHERE c.ts = d.ts",
        "WITH cpu AS (SELECT * FROM cpu a WHERE {0}) SELECT * FROM cpu b WHERE {1}",
        "SELECT ts, sum(v) OVER (PARTITION BY site ORDER BY ts, region) AS s FROM cpu a WHERE {0}",
        "SELECT * FROM (SELECT *, row_number() OVER (ORDER BY ts, region, site) AS n FROM cpu) a WHERE {0} AND n > 3",
        "SELECT (SELECT count(*) FROM cpu b WHERE b.ts < a.ts AND {1}) AS n FROM cpu a WHERE {0}",
        "SELECT a.ts, m FROM cpu a, LATERAL (SELECT max(b.v) AS m FROM cpu b WHERE b.site = a.site AND {1}) WHERE {0}",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT count(*) FROM cpu a WHERE"
        " {0})) FROM r",
    ]
)


@settings(max_examples=settings().max_examples // 3)
@given(shape=SHAPES, first=CONDITIONS, second=CONDITIONS)
def test_the_result_needs_no_other_files(shape: str, first: str, second: str) -> None:
    """Whatever a query asks for, the files that DuckDB leaves out do not change its result."""
    query = shape.format(first.replace("{t}", "a"), second.replace("{t}", "b"))

    assert _result(query, _needed(query)) == _result(query, ALL)


@pytest.mark.parametrize(
    ("where", "files"),
    [
        ("true", 9),
        ("v < 0", 9),  # nothing is known of other columns
        ("region = 'it''s'", 3),
        ("region = 'eu' AND site IN ('2', '3')", 3),
        ("region LIKE 'e%'", 6),
        ("ts >= '2026-01-02' AND ts < '2026-01-03'", 3),
        ("ts BETWEEN TIMESTAMPTZ '2026-01-02 18:00' AND '2026-01-03 05:59'", 3),
        ("ts > '2026-01-02 18:00' AND ts < '2026-01-03 06:00'", 0),
        ("date_trunc('day', ts) = '2026-01-02'", 3),
        ("ts > now() - INTERVAL 1 DAY AND ts < '2100-01-01'", 0),
        ("region = 'eu' AND ts < '2026-01-02'", 2),
        ("region = 'eu' OR ts < '2026-01-02'", 9),  # DuckDB does not tell
    ],
)
def test_keys_and_times_exclude_files(where: str, files: int) -> None:
    """Conditions on the timestamp column and on parts of the key leave few files; all others leave all."""
    assert len(_needed(f"SELECT count(*) FROM cpu WHERE {where}")) == files


@pytest.mark.parametrize(
    ("type_", "first", "last"),
    [
        (pa.timestamp("us", "Asia/Tokyo"), "2026-01-02 00:00:00.000001+00", "2026-01-02 23:59:59.999999+00"),
        (pa.timestamp("s", "UTC"), "0003-01-02 00:00:00+00", "9997-01-02 00:00:01+00"),
        (pa.timestamp("ns", "UTC"), "1970-01-01 00:00:00.000000001", "2262-04-11 23:47:16.854775806"),
        (pa.timestamp("ns"), "1677-09-22 00:00:00.000000001", "1969-12-31 23:59:59.999999999"),
        (pa.timestamp("ms"), "2026-01-02 00:00:00.001", "2026-01-02 00:00:00.001"),
        (pa.timestamp("s"), "2026-01-02 00:00:01", "2026-01-02 00:00:02"),
        (pa.date32(), "1969-12-31", "2026-01-02"),
        (pa.date64(), "0003-01-02 00:00:00", "2026-01-02 00:00:00"),
    ],
)
def test_every_type_of_timestamp(type_: pa.DataType, first: str, last: str) -> None:
    """The first and the last instant of a file are in it, in any unit; the next ones are not."""
    form = storage_form(type_)
    assert form is not None
    ends = [f"CAST('{end}' AS {form.sql_type})" for end in (first, last)]
    in_ns = "epoch_ns({})" if form.sql_type == "TIMESTAMP_NS" else "epoch_us({})::HUGEINT * 1000"
    with closing(_connect()) as connection:
        [found] = connection.execute(f"SELECT {', '.join(in_ns.format(end) for end in ends)}").fetchall()
    extents = [FileExtent(key={}, min_ts_ns=found[0], max_ts_ns=found[1])]
    schema = pa.schema([("the ts", type_)])
    statements = list(stand_in_statements("cpu", schema, [], "the ts", extents, alias="f"))
    wanted = [f'"the ts" = {end}' for end in ends] + [f'"the ts" < {ends[0]}', f'"the ts" > {ends[1]}']
    answers = []
    for where in wanted:
        with closing(_connect()) as connection:
            answers.append(find_needed(connection, [f"FROM cpu WHERE {where}"], [], statements))
    assert answers == [["f0"], ["f0"], [], []]
