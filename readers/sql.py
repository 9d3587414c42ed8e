"""SQL over datasets at a version: each query in a process of its own, with bounded time, memory and number."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from catalog.manifests import Manifests
from readers.sql_views import ViewFile, view_statements
from storage.store import Store
from timestore.datasets import Dataset
from timestore.errors import TimestoreError, error
from timestore.json_object import JsonObject
from timestore.reading import AsOf, Selection

PROGRAM = Path(__file__).with_name("sql_process.py")
MAX_FILES = 4_000  # attached at once; each takes about 0.3 MB of memory and one descriptor
MAX_QUERY_BYTES = 256 << 10
DEFAULT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S = 600.0
ACQUIRE_TIMEOUT_S = 10.0
RETRY_AFTER_S = 1.0
_FRAME_HEAD_BYTES = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQuery:
    """A query, and the versions that it is for."""

    text: str
    as_of: AsOf  # of every dataset that ``versions`` does not name; a number only if there is one dataset
    versions: Mapping[str, int] = field(default_factory=dict)  # by dataset
    max_rows: int | None = None  # more is an error
    timeout_s: float = DEFAULT_TIMEOUT_S  # up to the last row


class SqlQueries:
    """Runs queries, a few at once. Thread safe."""

    def __init__(
        self, *, manifests: Manifests, store: Store, running: int, memory_limit_bytes: int, threads: int
    ) -> None:
        self._manifests = manifests
        self._store = store
        self._running = running
        self._places = threading.BoundedSemaphore(running)
        self._memory_limit_bytes = memory_limit_bytes
        self._threads = threads

    def run(self, query: SqlQuery) -> Iterator[bytes]:
        """Yield the rows, each time as an Arrow IPC stream of its own; the first has the schema alone.

        Raises ``query_invalid``, ``query_too_expensive``, ``overloaded``, ``storage_unavailable``, and what resolving
        a dataset and its version raises.
        """
        if len(query.text.encode()) > MAX_QUERY_BYTES:
            raise _too_expensive(f"the query's text is longer than {MAX_QUERY_BYTES} bytes")
        with self._place(), _QueryProcess(timeout_s=query.timeout_s) as process:
            process.tell(
                {
                    "query": query.text,
                    "max_rows": query.max_rows,
                    "memory_limit_bytes": self._memory_limit_bytes,
                    "threads": self._threads,
                }
            )
            names = json.loads(process.expect(b"N"))
            process.tell(self._views(names, query))
            yield from process.results()

    def _views(self, names: list[str], query: SqlQuery) -> list[str]:
        """Return the statements that make a view of each dataset among the names.

        Other names may be of the query's own making (WITH); if not, DuckDB says so.
        """
        datasets = [dataset for name in names if (dataset := self._manifests.find(name)) is not None]
        distinct = {dataset.dataset_id: dataset for dataset in datasets}
        if unknown := sorted(set(query.versions) - {dataset.spec.name for dataset in distinct.values()}):
            raise error("query_invalid", f"versions names {unknown}, of which the query reads nothing")
        if query.as_of.version is not None and len(distinct) > 1:
            read = sorted(dataset.spec.name for dataset in distinct.values())
            raise error("query_invalid", f"the query reads {read}: say the version of each in versions, or use as_of")
        statements: list[str] = []
        for number, dataset in enumerate(distinct.values()):
            statements += self._view(dataset, query, alias=f"d{number}_", room=MAX_FILES - len(statements))
        return statements

    def _view(self, dataset: Dataset, query: SqlQuery, *, alias: str, room: int) -> list[str]:
        said = query.versions.get(dataset.spec.name)
        version = self._manifests.resolve(dataset, AsOf(version=said) if said is not None else query.as_of)
        files: list[ViewFile] = []
        for item in self._manifests.all_slices(dataset, version, Selection()):
            path = self._store.local_path(item.path) if item.path is not None else None
            if path is None:
                raise error("unsupported", f"rows that landed as {item.form} cannot be queried yet")
            if len(files) == room:
                raise _too_expensive(
                    f"the query would open more than {MAX_FILES} files; read {dataset.spec.name!r} by key or time range"
                )
            key = JsonObject.parse(item.key.encode(), what="key").all_texts()
            files.append(ViewFile(path=str(path), key=key))
        schema = self._manifests.schema_at(dataset, version)
        return list(view_statements(dataset.spec.name, schema, dataset.key_names or (), files, alias=alias))

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(timeout=ACQUIRE_TIMEOUT_S):
            raise error(
                "overloaded",
                f"{self._running} queries are running, and no more may; try again shortly",
                details={"limit": self._running},
                retry_after_s=RETRY_AFTER_S,
            )
        try:
            yield
        finally:
            self._places.release()


class _QueryProcess:
    """One run of ``sql_process``, which cannot outlive its ``with`` block, its deadline or the server."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._timed_out = False

    def __enter__(self) -> _QueryProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},  # the server's may have secrets
            cwd="/",
            start_new_session=True,  # Ctrl-C is the server's
        )
        self._timer = threading.Timer(self._timeout_s, self._time_out)
        self._timer.name = "sql-deadline"
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._process.kill()
        with suppress(OSError):
            self._stdin.close()
        self._stdout.close()
        self._process.wait()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None  # a pipe
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None  # a pipe
        return self._process.stdout

    def tell(self, value: object) -> None:
        """Send a line of JSON."""
        try:
            self._stdin.write(json.dumps(value).encode() + b"\n")
            self._stdin.flush()
        except OSError as exc:
            raise self._ended() from exc

    def expect(self, letter: bytes) -> bytes:
        """Return the content of the next frame, which must be of this kind."""
        found, content = self._frame()
        if found != letter:
            raise self._ended()
        return content

    def results(self) -> Iterator[bytes]:
        """Yield rows until the process is done."""
        while True:
            found, content = self._frame()
            if found == b"D":
                return
            yield content

    def _frame(self) -> tuple[bytes, bytes]:
        """Return the next frame's letter and content; raises what the query is refused with."""
        head = self._stdout.read(_FRAME_HEAD_BYTES)
        size = struct.unpack(">Q", head[1:])[0] if len(head) == _FRAME_HEAD_BYTES else 0
        content = self._stdout.read(size)
        if len(head) < _FRAME_HEAD_BYTES or len(content) < size:
            raise self._ended()
        if head[:1] == b"E":
            fields: dict[str, Any] = json.loads(content)
            raise error(fields["kind"], fields["message"])
        return head[:1], content

    def _time_out(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _ended(self) -> TimestoreError:
        """Say why the process ended before it was done."""
        if self._timed_out:
            return _too_expensive(f"the query took longer than {self._timeout_s:g} s; narrow it, or raise timeout_s")
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _too_expensive(f"the query's process died ({how}), most likely for want of memory; narrow the query")


def _too_expensive(message: str) -> TimestoreError:
    return error("query_too_expensive", message)
