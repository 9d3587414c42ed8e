"""The page on clients and what tests show cannot drift apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.clients import page
from tests.clients.page import cells_of, render
from tests.fixtures import capabilities
from tests.fixtures.capabilities import PROPERTY, Evidence

SHOWN = {("Go", "replay"), ("Rust", "reads")}


@pytest.fixture(name="said")
def _said(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A page that says what was shown."""
    path = tmp_path / "clients.md"
    path.write_text(render(SHOWN), encoding="utf-8")
    monkeypatch.setattr(capabilities, "PAGE", path)
    return path


def _exit_code(*cells: page.Cell, failed: page.Cell | None = None, complete: bool = True, write: bool = False) -> int:
    """End a run in which tests showed these cells, and one failed."""
    option = SimpleNamespace(keyword="", markexpr="", collectonly=False, no_skips=complete)
    source = pytest.Config.ArgsSource.TESTPATHS
    config: Any = SimpleNamespace(option=option, args_source=source, getoption=lambda _: write)
    session: Any = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    evidence = Evidence(config)
    for cell in cells:
        report: Any = SimpleNamespace(passed=cell != failed, when="call", user_properties=[(PROPERTY, list(cell))])
        evidence.pytest_runtest_logreport(report)
    evidence.pytest_sessionfinish(session)
    return int(session.exitstatus)


def test_the_page_says_what_was_rendered() -> None:
    """What a page was written from can be read from it."""
    assert cells_of(render(SHOWN)) == SHOWN


@pytest.mark.usefixtures("said")
def test_a_run_that_shows_what_is_said_passes() -> None:
    """A complete run with the page's evidence passes, and so does a part of it."""
    assert _exit_code(*SHOWN) == 0
    assert _exit_code(("Go", "replay"), complete=False) == 0


@pytest.mark.usefixtures("said")
def test_a_page_that_says_less_or_more_fails_the_run() -> None:
    """What was shown must be said, and in a complete run what is said must have been shown."""
    assert _exit_code(*SHOWN, ("Java", "replay"), complete=False) == 1
    assert _exit_code(("Go", "replay")) == 1
    assert _exit_code(*SHOWN, failed=("Go", "replay")) == 1


def test_the_page_is_written(said: Any) -> None:
    """A run that is to write the page writes what it has shown."""
    assert _exit_code(("Java", "replay"), write=True) == 0
    assert cells_of(said.read_text(encoding="utf-8")) == {("Java", "replay")}
