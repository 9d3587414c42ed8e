"""What a page tells its reader to do works, and shows what the page says."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from catalog.embedded.binaries import find_binaries
from tests.fixtures.data import cpu_table
from tests.fixtures.documents import ROOT, Block, PageRun, blocks_of

DOCS = ROOT / "docs"
READY = "timestore ... is ready at grpc://127.0.0.1:8815 (data in ...)"
RUN = {"console", "python"}
EXAMPLES = {"go": "go", "java": "java", "js": "js", "rust": "rs"}  # languages, and how their files end
SHOWN = {"", "json", "sql", "text", *EXAMPLES}  # what nobody can run, or what others run


def _blocks(page: Path) -> list[Block]:
    return blocks_of(page.read_text(encoding="utf-8"))


def _running_pages() -> list[str]:
    pages = sorted(page for page in DOCS.rglob("*.md") if any(block.language in RUN for block in _blocks(page)))
    return [page.relative_to(DOCS).as_posix() for page in pages]


@pytest.fixture(name="new_database")
def _new_database(postgres_dsn: str) -> Iterator[Callable[[], str]]:
    """Make empty databases, and give their DSNs."""
    made: list[str] = []

    def make() -> str:
        made.append(f"docs_{uuid4().hex}")
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made[-1])))
        return make_conninfo(postgres_dsn, dbname=made[-1])

    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield make
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(name="reader")
def _reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: Callable[[], str]) -> Iterator[PageRun]:
    """Somebody who reads a page: on a machine where Timestore is installed, in an empty directory."""
    directory = tmp_path / "reader"
    directory.mkdir()
    monkeypatch.chdir(directory)
    tools = find_binaries().postgres.parent
    environment = {
        "CATALOG": new_database(),
        "RESTORED": new_database(),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    with PageRun(directory, environment) as run:
        yield run


def _nothing(reader: PageRun) -> None:
    """The page begins with nothing."""


def _a_checkout(reader: PageRun) -> None:
    """Timestore is to be installed; what it depends on is there already, so that pip needs no network."""
    (reader.directory / "timestore").symlink_to(ROOT)
    libraries = reader.directory.parent / "libraries"
    libraries.mkdir()
    for library in Path(sysconfig.get_path("purelib")).iterdir():
        if not library.name.startswith("timestore"):
            (libraries / library.name).symlink_to(library)
    reader.type('rm "$(command -v timestore)"')
    inside = Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    reader.define("python3", f'{sys.executable} "$@" && echo \'{libraries}\' >"$3/{inside}/dependencies.pth"')
    # 0 means no isolation: the value is taken as that of the option `build-isolation`.
    reader.type("unset PYTHONPATH; export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0")


def _a_server(reader: PageRun) -> None:
    """The page takes a running server for granted."""
    reader.type("timestore serve", READY)


def _a_server_and_files(reader: PageRun) -> None:
    """A year to load: four days in two months, from two sites."""
    _a_server(reader)
    (reader.directory / "meters").mkdir()
    for day, offset in (("01-10", 9), ("01-11", 10), ("02-10", 40), ("02-11", 41)):
        stamps = cpu_table(100, step_s=60, offset=(offset - 365) * 24 * 60).column("ts")
        rows = pa.table({"time": stamps, "watts": [float(n) for n in range(100)]})
        for site in ("berlin", "lyon"):
            pq.write_table(rows, reader.directory / "meters" / f"2025-{day}_{site}.parquet")


def _a_server_with_meters(reader: PageRun) -> None:
    """Three rows from each of two sites."""
    _a_server(reader)
    reader.execute(
        "import pyarrow as pa, timestore; from tests.fixtures.data import cpu_table\n"
        "times = cpu_table(3).column('ts')\n"
        "with timestore.connect('grpc://127.0.0.1:8815') as client:\n"
        "    for site, watts in {'berlin': [41.5, 42.0, 40.5], 'lyon': [38.0, 43.0, 39.0]}.items():\n"
        "        client.append('meters', pa.table({'time': times, 'watts': watts}), key={'site': site})"
    )


def _a_server_and_a_table(reader: PageRun) -> None:
    """Rows that the page calls ``table``."""
    _a_server(reader)
    reader.execute("from tests.fixtures.data import cpu_table; table = cpu_table(10)")


def _a_catalog_with_rows(reader: PageRun) -> None:
    """Something to back up."""
    reader.type('timestore serve --catalog-dsn "$CATALOG" --storage-url data', READY)
    reader.execute(
        "import timestore; from tests.fixtures.data import cpu_table\n"
        "with timestore.connect('grpc://127.0.0.1:8815') as client: client.append('meters', cpu_table(3))"
    )


BEFORE = {
    "tutorial/first-data.md": _a_checkout,
    "explanation/time.md": _nothing,
    "how-to/backfill.md": _a_server_and_files,
    "how-to/duckdb.md": _a_server_with_meters,
    "how-to/http.md": _nothing,
    "how-to/secure-a-server.md": _nothing,
    "how-to/several-servers.md": _nothing,
    "how-to/telegraf.md": _nothing,
    "reference/client.md": _a_server_and_a_table,
    "operations/backup.md": _a_catalog_with_rows,
}


@pytest.mark.parametrize("name", _running_pages())
def test_page_runs(name: str, reader: PageRun) -> None:
    """Every command and all code of a page run in the order of the page, and print what it shows."""
    BEFORE.get(name, _a_server)(reader)

    reader.run(DOCS / name)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_nothing_looks_run_that_is_not(page: Path) -> None:
    """Commands and code are in blocks that the tests run; no others."""
    for block in _blocks(page):
        assert block.title is not None or block.language in RUN | SHOWN, f"line {block.line}: {block.language}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_other_languages_are_those_of_the_examples(page: Path) -> None:
    """Code in another language stands so in an example, which tests build and run."""
    for block in _blocks(page):
        if block.language in EXAMPLES:
            files = (ROOT / "examples").rglob(f"*.{EXAMPLES[block.language]}")
            assert any(block.text in file.read_text(encoding="utf-8") for file in files), f"line {block.line}"
