"""The program that runs one SQL query: a process of its own, so that no query can take the server along.

It is started as a script, in isolated mode and without an environment, and imports nothing of Timestore. It reads two
lines of JSON from its standard input: the query with its limits; then, once it has answered which tables the query
names, the views to make. It writes frames to its standard output: a letter, eight bytes of length, and the content.

    N  names      JSON list of the tables that the query names
    R  result     rows, as an Arrow IPC stream of its own
    E  error      JSON {"kind", "message"}; the last frame
    D  done       empty; the last frame

When its standard input ends, so does it: then the server is gone, or wants no more.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa

BATCH_ROWS = 65_536
FRAME_BYTES = 8 << 20  # about; a single row may be larger
HEADROOM_BYTES = 1 << 30  # beside DuckDB's own limit: the interpreter, attached files, rows on their way


class QueryRefusedError(Exception):
    """What is wrong with a query, by the kind of its error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def main() -> None:
    """Run one query."""
    task = json.loads(sys.stdin.readline())
    _limit_process(task["memory_limit_bytes"])
    try:
        _run(task)
        _write(b"D", b"")
    except QueryRefusedError as exc:
        _write_error(exc.kind, str(exc))
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        limit = task["memory_limit_bytes"] >> 20
        _write_error("query_too_expensive", f"the query needs more than the {limit} MiB of memory that it may have")
    except duckdb.Error as exc:
        _write_error("query_invalid", str(exc))
    except BrokenPipeError:
        pass  # nobody reads any more
    except Exception as exc:  # noqa: BLE001  # the top of a process: the server reports it
        _write_error("internal", f"the query's process failed: {type(exc).__name__}")


def _run(task: dict[str, Any]) -> None:
    connection = _connect(task)
    query = task["query"]
    _write(b"N", json.dumps(_table_names(connection, query)).encode())
    _make_views(connection, json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_input, name="input", daemon=True).start()
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    rows = 0
    reader = connection.sql(query).to_arrow_reader(BATCH_ROWS)
    _write_rows(pa.Table.from_batches([], reader.schema))
    for batch in reader:
        rows += batch.num_rows
        if task["max_rows"] is not None and rows > task["max_rows"]:
            raise QueryRefusedError(
                "query_too_expensive", f"the query gives more than {task['max_rows']} rows, which is its max_rows"
            )
        for piece in _cut(batch):
            _write_rows(pa.Table.from_batches([piece]))


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
    return connection


def _table_names(connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """Return the names that a query reads from; refuse what is not one SELECT.

    DuckDB's own parser says so. (``get_table_names`` would bind the query too, and refuses joins of unknown tables.)
    """
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRefusedError("query_invalid", "only one statement that reads is allowed: SELECT, FROM, WITH, VALUES")
    rows = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree = json.loads(rows[0][0])
    if tree["error"]:
        raise QueryRefusedError("query_invalid", tree["error_message"])
    return sorted({node["table_name"] for node in _nodes(tree) if node.get("type") == "BASE_TABLE"})


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON document. Not by recursion: a query may be nested deeply."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


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


def _write_error(kind: str, message: str) -> None:
    _write(b"E", json.dumps({"kind": kind, "message": message}).encode())


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


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
