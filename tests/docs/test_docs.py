"""The documents say what the program does."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from timestore.errors import KINDS
from timestore_app.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DEFAULTS_OF_THE_MACHINE = {"data_dir", "memory_budget", "writer_threads"}
NO_VALUE = "none"

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's table by the name in their first cell."""
    lines = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(_without_code(page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_setting_is_documented() -> None:
    """The reference has every setting, and no other."""
    assert list(_rows("settings.md")) == list(Settings.model_fields)


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name not in DEFAULTS_OF_THE_MACHINE])
def test_documented_default_is_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reference calls the default of a setting gives, when set, what the setting is without being set."""
    monkeypatch.delenv(f"TIMESTORE_{name.upper()}", raising=False)
    documented = _rows("settings.md")[name][0].strip("`")

    default = getattr(Settings.load(None, {}), name)

    if documented == NO_VALUE:
        assert default is None
    else:
        assert getattr(Settings.load(None, {name: documented}), name) == default


def test_every_error_kind_is_documented() -> None:
    """The reference has every kind of error, with its HTTP status, its gRPC code, and whether to repeat the call."""
    documented = {kind: tuple(cells[:4]) for kind, cells in _rows("errors.md").items()}

    assert documented == {
        kind: (str(spec.http), spec.grpc.name, "yes" if spec.repeatable else "no", spec.error.__name__)
        for kind, spec in KINDS.items()
    }


def test_readme_code_runs(server_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The README's Python does what it says, on a server that is new."""
    [code] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert "grpc://127.0.0.1:8815" in code

    exec(compile(code.replace("grpc://127.0.0.1:8815", server_url), "README.md", "exec"), {})

    printed = capsys.readouterr().out
    assert "version 1: 4 rows in 2 files" in printed
    assert "idempotency_conflict" in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to another page, and to a heading in one, resolves."""
    links = _LINK.findall(_without_code(page.read_text(encoding="utf-8")))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert not anchor or anchor in _anchors(target), f"{link}: there is no such heading"
