"""The examples that do without our library, in every language, and how each is started."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from tests.fixtures.documents import ROOT
from tests.fixtures.server import same_user_environment

BUILT = ROOT / "build" / "clients"
TIMEOUT_S = 60
BATCH_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An example: `COMMAND... PUT... DATASET FILE --idempotency-key KEY` appends an Arrow stream file."""

    client: str
    command: tuple[str, ...]
    file: Path  # without it, nothing was built
    put: tuple[str, ...] = ("put",)
    puts: bool = True  # not every one appends
    gets: bool = False  # `COMMAND... get DATASET FILE` reads
    asks: bool = False  # `COMMAND... ASK QUERY` prints the rows of an answer as JSON, one a line
    ask: str = "sql"
    one_dictionary: bool = False  # its Flight sends dictionaries once; it must refuse files in which they change
    speaks_sql: bool = False  # appends as Flight SQL does: the answer is a number of rows

    @property
    def needs_toolchain(self) -> bool:
        """Whether it had to be built."""
        return self.command[0] != sys.executable

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start it."""
        assert self.file.exists(), f"{self.file} is not there: `make clients` builds it"
        return subprocess.Popen(
            [*self.command, *map(str, arguments)],
            env=same_user_environment() | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object) -> str:
        """What it printed; it must end well."""
        process = self.start(*arguments)
        printed, complaints = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, complaints
        return printed

    def refusal(self, *arguments: object) -> str:
        """What it said why it failed, which it must; of several lines only if the server's message has several."""
        process = self.start(*arguments)
        printed, complaints = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 1, complaints
        assert printed == ""
        assert len(complaints.splitlines()) == 1 or "(query_invalid)" in complaints
        return complaints


_GO = BUILT / "go" / "append"
_JAVA = BUILT / "java" / "append.jar"
_JDBC_JAR = BUILT / "java-jdbc" / "query.jar"
_NODE = BUILT / "node" / "main.js"
_RUST = BUILT / "rust" / "debug" / "timestore-example"
_ADBC = ROOT / "examples" / "adbc_ingest.py"
_PYARROW = ROOT / "examples" / "plain_flight_client.py"
_JVM = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # starts quicker

JDBC = Program(client="JDBC", command=(*_JVM, "-jar", str(_JDBC_JAR)), file=_JDBC_JAR, puts=False, asks=True)
PROGRAMS = (
    Program(client="pyarrow.flight", command=(sys.executable, str(_PYARROW)), file=_PYARROW, put=()),
    Program(client="ADBC", command=(sys.executable, str(_ADBC)), file=_ADBC, put=(), speaks_sql=True),
    Program(client="Go", command=(str(_GO),), file=_GO, gets=True),
    Program(client="Go, Flight SQL", command=(str(_GO),), file=_GO, put=("ingest",), speaks_sql=True, asks=True),
    Program(
        client="Go, ADBC",
        command=(str(_GO),),
        file=_GO,
        put=("adbc-ingest",),
        speaks_sql=True,
        asks=True,
        ask="adbc-sql",
    ),
    Program(client="Java", command=(*_JVM, "-jar", str(_JAVA)), file=_JAVA, gets=True, one_dictionary=True),
    JDBC,
    Program(client="Node", command=("node", str(_NODE)), file=_NODE, gets=True),
    Program(client="Rust", command=(str(_RUST),), file=_RUST, gets=True),
)


def each(*capabilities: str, gets: bool = False, asks: bool = False) -> pytest.MarkDecorator:
    """Run a test with all programs that append, read or ask, as evidence for what their clients can do."""
    chosen = [
        program
        for program in PROGRAMS
        if (program.gets or not gets) and (program.asks or not asks) and (program.puts or gets or asks)
    ]
    return pytest.mark.parametrize(
        "program", [pytest.param(program, id=program.client, marks=_marks(program, capabilities)) for program in chosen]
    )


def _marks(program: Program, capabilities: tuple[str, ...]) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.capability(program.client, capability) for capability in capabilities]
    return [*marks, pytest.mark.toolchain] if program.needs_toolchain else marks


def write_stream(table: pa.Table, path: Path) -> Path:
    """Write a table as an Arrow stream file of several batches."""
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=BATCH_ROWS)
    return path


def read_stream(path: Path) -> pa.Table:
    """Read an Arrow stream file."""
    with pa.ipc.open_stream(path) as stream:
        return stream.read_all()
