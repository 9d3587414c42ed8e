"""What a page tells its reader to do works, and shows what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.documents import ROOT, PageRun, blocks_of

DOCS = ROOT / "docs"
SERVE = "timestore serve"
READY = "timestore ... is ready at grpc://127.0.0.1:8815 (data in ...)"
RUN = {"console", "python"}
READ = {"", "csv", "json", "sql", "text", "toml"}  # what nobody can run, or what is run by its title


def _running_pages() -> list[Path]:
    pages = sorted(DOCS.rglob("*.md"))
    return [page for page in pages if any(block.language in RUN for block in _blocks(page))]


def _blocks(page: Path):
    return blocks_of(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", _running_pages(), ids=lambda page: str(page.relative_to(DOCS)))
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command and all code of a page run in the order of the page, and print what it shows."""
    directory = tmp_path / "reader"
    directory.mkdir()
    monkeypatch.chdir(directory)
    with PageRun(directory) as run:
        if f"$ {SERVE}" not in page.read_text(encoding="utf-8"):
            run.type(SERVE, READY)
        run.run(page)
