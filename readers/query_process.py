"""The server's end of a query's process: its start, its frames, its deadline and its end."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from readers.query_places import Place
from readers.sql_tables import too_expensive
from timestore.errors import TimestoreError, error

# Takes this very package for ``readers``, wherever it lies: no path of the server's is searched for it.
_PROGRAM = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("readers", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
sys.modules["readers"] = module_from_spec(spec)
from readers.sql_process import main
main()
"""
_FRAME_HEAD_BYTES = 9


class QueryProcess:
    """One run of ``readers.sql_process``, which cannot outlive its ``with`` block, its deadline or the server."""

    def __init__(self, *, timeout_s: float, place: Place) -> None:
        self._timeout_s = timeout_s
        self._place = place
        self._ended_because: TimestoreError | None = None
        self.deadline = time.monotonic() + timeout_s

    def __enter__(self) -> QueryProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},  # the server's may have secrets
            cwd="/",
            start_new_session=True,  # Ctrl-C is the server's
        )
        self._place.runs(self.end)
        self._timer = threading.Timer(self._timeout_s, lambda: self._place.give_way(self._out_of_time()))
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

    def end(self, reason: TimestoreError) -> None:
        """Kill the process, from whichever thread; who reads from it hears the reason."""
        self._ended_because = reason
        self._process.kill()
        self._process.wait()

    def tell(self, value: object) -> None:
        """Send a line of JSON."""
        try:
            self._stdin.write(json.dumps(value).encode() + b"\n")
            self._stdin.flush()
        except OSError as exc:
            raise self._ended() from exc

    def check_time(self) -> None:
        """Raise ``query_too_expensive`` if the time is over."""
        if time.monotonic() >= self.deadline:
            raise self._out_of_time()

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
            failure = error(fields["kind"], fields["message"])
            raise MissingTableError(failure) if fields["missing"] else failure
        return head[:1], content

    def _ended(self) -> TimestoreError:
        """Say why the process ended before it was done."""
        if self._ended_because is not None:
            return self._ended_because
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return too_expensive(f"the query's process died ({how}), most likely for want of memory; narrow the query")

    def _out_of_time(self) -> TimestoreError:
        return too_expensive(f"the query took longer than {self._timeout_s:g} s; narrow it, or raise timeout_s")


class MissingTableError(Exception):
    """A query names what is not there."""

    def __init__(self, failure: TimestoreError) -> None:
        super().__init__(str(failure))
        self.failure = failure
