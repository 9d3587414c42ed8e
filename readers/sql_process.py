"""The program that runs one SQL query: a process of its own, so that no query can take the server along.

It is started in isolated mode and without an environment, and imports nothing of Timestore but ``readers.sql_tree`` and
``readers.sql_parameters``, which import no more. It reads lines of JSON from its standard input: the query with its
limits; then, once it has answered which tables the query names, their columns, and the views to make. Where files have
to be fetched for them, it is first given stand-ins, and answers which of those the query needs. It writes frames to its
standard output: a letter, eight bytes of length, and the content.

    N  names       JSON list of the tables that the query names
    T  stand-ins   JSON list of those that the query needs
    P  parameters  their schema, as an Arrow IPC schema; only if the query is to be described and not run
    O  origins     JSON list: for each result column [table, column] if it is one, unchanged; else null
    R  result      rows, as an Arrow IPC stream of its own
    E  error       JSON {"kind", "message", "missing"}, the latter if something named is not there; the last frame
    D  done        empty; the last frame

When its standard input ends, so does it: then the server is gone, or wants no more.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from readers.sql_parameters import Bound, QueryRefusedError
from readers.sql_tree import Origin, nodes, origins, parameter_types, parameters, table_names

BATCH_ROWS = 65_536
FRAME_BYTES = 8 << 20  # about; a single row may be larger
STAND_INS = "stand_ins"  # the schema of tables that have no rows, each instead of a file
MAX_NESTING = 20_000  # of Python's calls: an expression of a thousand terms is a tree as deep
HEADROOM_BYTES = 1 << 30  # beside DuckDB's own limit: the interpreter, attached files, rows on their way


def main() -> None:
    """Run one query."""
    sys.setrecursionlimit(MAX_NESTING)
    task = json.loads(sys.stdin.readline())
    _limit_process(task["memory_limit_bytes"])
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(told,), name="input", daemon=True).start()
    try:
        _run(task, told)
        _write(b"D", b"")
    except QueryRefusedError as exc:
        _write_error(exc.kind, str(exc))
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        limit = task["memory_limit_bytes"] >> 20
        _write_error("query_too_expensive", f"the query needs more than the {limit} MiB of memory that it may have")
    except duckdb.Error as exc:
        _write_error("query_invalid", str(exc), missing=isinstance(exc, duckdb.CatalogException))
    except BrokenPipeError:
        pass  # nobody reads any more
    except Exception as exc:  # noqa: BLE001  # the top of a process: the server reports it
        _write_error("internal", f"the query's process failed: {type(exc).__name__}")


def _run(task: dict[str, Any], told: queue.SimpleQueue[str]) -> None:
    connection = _connect(task)
    tree = _parse(connection, task["query"])
    _write(b"N", json.dumps(table_names(tree)).encode())
    columns: dict[str, list[list[str]]] = json.loads(told.get())["columns"]
    bound = Bound(task["query"], parameters(tree), parameter_types(tree, _column_types(columns)))
    if task["parameters"] is not None:
        bound.bind(connection, task["parameters"])
    answer = json.loads(told.get())
    if "stand_ins" in answer:
        needed = find_needed(connection, list(bound.queries()), answer["paths"], answer["stand_ins"])
        _write(b"T", json.dumps(needed).encode())
        answer = json.loads(told.get())
    _make_views(connection, answer["views"])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    known = {table: [column for column, _ in each] for table, each in columns.items()}
    if task["describe"]:
        _write(b"P", bound.schema(connection).serialize())
        names = bound.column_names(connection)
        found = connection.sql(bound.described()).limit(0).to_arrow_table()
        _write_result(_named(found.schema, names), origins(tree, known))
    else:
        _stream(connection, bound, origins(tree, known), task["max_rows"])


def _stream(
    connection: duckdb.DuckDBPyConnection, bound: Bound, from_: list[Origin | None] | None, max_rows: int | None
) -> None:
    """Run the query, once for each row of parameters, and write what it gives as one result."""
    names, schema, rows = bound.column_names(connection), None, 0
    for text in bound.queries():
        reader = connection.sql(text).to_arrow_reader(BATCH_ROWS)
        if schema is None:
            schema = _named(reader.schema, names)
            _write_result(schema, from_)
        for batch in reader:
            rows += batch.num_rows
            if max_rows is not None and rows > max_rows:
                raise QueryRefusedError(
                    "query_too_expensive", f"the query gives more than {max_rows} rows, which is its max_rows"
                )
            for piece in _cut(_shaped(batch, schema)):
                _write_rows(pa.Table.from_batches([piece]))


def _write_result(schema: pa.Schema, from_: list[Origin | None] | None) -> None:
    """Write where the columns come from, if that can be told of as many as there are, and their schema."""
    _write(
        b"O", json.dumps(from_ if from_ is not None and len(from_) == len(schema) else [None] * len(schema)).encode()
    )
    _write_rows(pa.Table.from_batches([], schema))


def _named(schema: pa.Schema, names: list[str] | None) -> pa.Schema:
    if names is None:
        return schema
    return pa.schema([field.with_name(name) for name, field in zip(names, schema, strict=True)])


def _shaped(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give rows the names and types of the result: with a null for a parameter, DuckDB may say another type."""
    if batch.schema.equals(schema):
        return batch
    try:
        columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
    except pa.ArrowInvalid as exc:
        raise QueryRefusedError(
            "query_invalid", "rows of parameters give results of different types; cast them"
        ) from exc
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _connect(task: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": task["threads"],
            "memory_limit": f"{task['memory_limit_bytes']}B",
            "temp_directory": "",  # nothing is written, not even what does not fit
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "python_enable_replacements": False,  # names in a query are no variables of this program
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # it goes to standard output, between the frames
    # Where the views are, so that a query may also qualify them as metadata says.
    connection.execute("ATTACH ':memory:' AS timestore")
    connection.execute("USE timestore")
    return connection


def _parse(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    """Return the parse tree of a query; refuse what is not one SELECT.

    DuckDB's own parser makes it. (``get_table_names`` would bind the query too, and refuses joins of unknown tables.)
    """
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRefusedError(
            "query_invalid",
            "only one statement that reads is allowed: SELECT, FROM, WITH, VALUES. Rows are appended by a put or "
            "adbc_ingest, datasets made by create_dataset and dropped by drop_dataset",
        )
    rows = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree: dict[str, Any] = json.loads(rows[0][0])
    if tree["error"]:
        raise QueryRefusedError("query_invalid", tree["error_message"])
    return tree


def _column_types(columns: dict[str, list[list[str]]]) -> dict[str, str]:
    """Return the type of each column name, in lower case, that has the same one in all tables."""
    types: dict[str, set[str]] = {}
    for table in columns.values():
        for column, type_ in table:
            types.setdefault(column.lower(), set()).add(type_)
    return {column: min(each) for column, each in types.items() if len(each) == 1}


def find_needed(
    connection: duckdb.DuckDBPyConnection, queries: Sequence[str], paths: list[str], stand_ins: list[str]
) -> list[str]:
    """Return the stand-ins that are left in DuckDB's plan of some query: no others can matter, as it knows.

    They are planned without access to files, as they will be run, and in the transaction in which they will be run: so
    ``now()`` is the same. A stand-in is empty, so what DuckDB concludes from how many rows there are, and from which
    values, is switched off meanwhile.
    """
    allowed = ", ".join("'" + f"{path}{wal}".replace("'", "''") + "'" for path in paths for wal in ("", ".wal"))
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    connection.execute("SET explain_output = 'all'")
    connection.execute("BEGIN")
    connection.execute(f"CREATE SCHEMA {STAND_INS}")
    connection.execute(f"CREATE TABLE {STAND_INS}.probe (i INTEGER)")
    for statement in stand_ins:
        connection.execute(statement)
    if _scanned(connection, f"FROM {STAND_INS}.probe") != {"probe"}:
        raise RuntimeError("this DuckDB does not tell what a query reads")  # a later one: it must not be guessed
    needed = set().union(*(_scanned(connection, query) for query in queries))
    connection.execute(f"DROP SCHEMA {STAND_INS} CASCADE")
    connection.execute("RESET explain_output")
    connection.execute("RESET disabled_optimizers")
    return sorted(needed)


def _scanned(connection: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    """Return the tables, without their schemas, that are in the optimized plans of a query."""
    plans = connection.execute(f"EXPLAIN (FORMAT json) {query}").fetchall()
    every = nodes([json.loads(plan) for name, plan in plans if name != "logical_plan"])
    details = [node["extra_info"] for node in every if isinstance(node.get("extra_info"), dict)]
    return {each["Table"].rpartition(".")[2] for each in details if "Table" in each}


def _make_views(connection: duckdb.DuckDBPyConnection, statements: list[str]) -> None:
    """Attach the files and create the views. What fails here is the storage's fault, not the query's."""
    try:
        for statement in statements:
            connection.execute(statement)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as exc:
        raise QueryRefusedError("storage_unavailable", f"a data file cannot be read: {type(exc).__name__}") from exc


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.nbytes <= FRAME_BYTES or batch.num_rows < 2:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _cut(batch.slice(0, half))
    yield from _cut(batch.slice(half))


def _write_rows(table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    _write(b"R", sink.getvalue())


def _write_error(kind: str, message: str, *, missing: bool = False) -> None:
    _write(b"E", json.dumps({"kind": kind, "message": message, "missing": missing}).encode())


def _write(letter: bytes, content: bytes | pa.Buffer) -> None:
    out = sys.stdout.buffer
    out.write(letter + struct.pack(">Q", len(content)))
    out.write(content)
    out.flush()


def _limit_process(memory_limit_bytes: int) -> None:
    """Let the kernel keep this process to its limits, whatever the query makes of DuckDB."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # pipes are no files
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every data file attached is an open one
    limit = memory_limit_bytes + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _listen(told: queue.SimpleQueue[str]) -> None:
    """Hand on what the server says; end when it is gone."""
    while line := sys.stdin.readline():
        told.put(line)
    os._exit(1)
