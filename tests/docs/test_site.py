"""The documents as a site: built strictly, and nothing in it comes from another host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.fixtures.documents import ROOT
from tests.fixtures.server import same_user_environment

BUILD_TIMEOUT_S = 100
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


def _build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(site)],
        env=same_user_environment() | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )


class _Loads(HTMLParser):
    """Collects what a browser would load to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls += [value for name, value in attrs if (tag, name) in LOADED and value]


@pytest.fixture(name="site", scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    done = _build(ROOT / "mkdocs.yml", site)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.fixture(name="copied_docs")
def _copied_docs(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("mkdocs.yml", "mkdocs_hooks.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path / "docs"


def test_every_page_is_built(site: Path) -> None:
    """The site builds without a warning and has every page, and a search index that knows them."""
    pages = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in (ROOT / "docs").rglob("*.md")}

    assert {page for page in pages if page != "index" and not (site / page / "index.html").is_file()} == set()
    assert (site / "index.html").is_file()
    assert "idempotency" in (site / "search" / "search_index.json").read_text(encoding="utf-8")


def test_site_works_without_a_network(site: Path) -> None:
    """No page loads a script, style, font or picture from another host."""
    for page in site.rglob("*.html"):
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert [url for url in loads.urls if re.match(r"(https?:)?//", url)] == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[gone](reference/gone.md)", "reference/gone.md"),
        ("[gone](glossary.md#gone)", "#gone"),
        ("[gone](#gone)", "#gone"),
    ],
)
def test_links_that_lead_nowhere_fail_the_build(copied_docs: Path, tmp_path: Path, text: str, complaint: str) -> None:
    """A broken link, or an anchor that is not there, ends the build."""
    with (copied_docs / "index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{text}\n")

    done = _build(tmp_path / "mkdocs.yml", tmp_path / "site")

    assert done.returncode != 0
    assert complaint in done.stderr


def test_page_that_nobody_finds_fails_the_build(copied_docs: Path, tmp_path: Path) -> None:
    """A page that is missing in the navigation ends the build."""
    (copied_docs / "how-to" / "hidden.md").write_text("# Hidden\n", encoding="utf-8")

    done = _build(tmp_path / "mkdocs.yml", tmp_path / "site")

    assert done.returncode != 0
    assert "how-to/hidden.md" in done.stderr
