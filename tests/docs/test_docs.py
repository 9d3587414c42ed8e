"""The documents say what the program does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import adbc_driver_flightsql.dbapi as flight_sql
import pytest

from flight_server.flight_sql import AS_OF_HEADER, TIMEOUT_HEADER, VERSION_HEADER
from tests.fixtures.data import cpu_table
from tests.fixtures.raw_put import RawPut, command
from timestore.descriptor import (
    END_HEADER,
    EXPECTED_ROWS_HEADER,
    IDEMPOTENCY_HEADER,
    KEY_HEADER,
    parse_put_command,
)
from timestore.errors import KINDS, TimestoreError
from timestore_app.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DEFAULTS_OF_THE_MACHINE = {"read_cache", "data_dir", "memory_budget", "writer_threads"}
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


def _names_in(page: str, heading: str) -> list[str]:
    """The names in the first cells of the table below a heading."""
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)]


def _known_fields(call: Callable[[], object]) -> list[str]:
    """The fields that a parser names when it meets one it does not know."""
    with pytest.raises(TimestoreError) as caught:
        call()
    [known] = re.findall(r"known are \[(.*)\]", caught.value.message)
    return sorted(re.findall(r"'(\w+)'", known))


def test_every_field_of_a_descriptor_is_documented() -> None:
    """The reference has every field that a put's descriptor may have, and every field of ``create``."""
    put = b'{"v": 1, "dataset": "a", "?": 1}'
    create = b'{"v": 1, "dataset": "a", "create": {"?": 1}}'
    assert sorted(_names_in("descriptor.md", "CMD")) == _known_fields(lambda: parse_put_command(put, {}))
    assert sorted(_names_in("descriptor.md", "Create")) == _known_fields(lambda: parse_put_command(create, {}))


def test_every_header_is_documented() -> None:
    """The reference has every header, and the field that it stands for."""
    assert sorted(_names_in("descriptor.md", "Headers")) == sorted(
        [IDEMPOTENCY_HEADER, KEY_HEADER, EXPECTED_ROWS_HEADER, END_HEADER]
    )


def test_every_header_of_a_query_is_documented() -> None:
    """The reference of Flight SQL has every header that a query may have."""
    assert sorted(_names_in("flight-sql.md", "Headers")) == sorted([VERSION_HEADER, AS_OF_HEADER, TIMEOUT_HEADER])


def test_every_mode_of_an_ingest_is_documented() -> None:
    """The reference has every mode that ADBC has."""
    modes = get_args(flight_sql.Cursor.adbc_ingest.__annotations__["mode"])
    assert sorted(_names_in("descriptor.md", "Flight SQL")) == sorted(modes)


def test_every_answer_is_documented(server_url: str) -> None:
    """The reference has every answer of a put with its fields, and every field of a receipt."""
    sent = cpu_table(10)
    answers: dict[str, set[str]] = {}
    for _ in range(2):
        put = RawPut(server_url, command(dataset="cpu", idempotency_key="a"), sent.schema)
        first = put.answer()
        assert first is not None
        put.send(sent)
        put.mark_end(10)
        for answer in (first, put.finish()):
            answers[answer["type"]] = set(answer) - {"type"}

    documented = {name: set(re.findall(r"`(\w+)`", cells[-1])) for name, cells in _rows("answers.md").items()}
    assert set(_names_in("answers.md", "Answers")) == {"ready", "committed", "progress", "receipt"}
    assert documented["ready"] == answers["ready"]
    assert documented["committed"] == answers["committed"]
    assert set(_names_in("answers.md", "Receipt")) == answers["receipt"] | {"type"}


def test_readme_code_runs(server_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The README's Python does what it says, on a server that is new."""
    [code] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert "grpc://127.0.0.1:8815" in code

    exec(compile(code.replace("grpc://127.0.0.1:8815", server_url), "README.md", "exec"), {})

    printed = capsys.readouterr().out
    assert "version 1: 4 rows in 2 files" in printed
    assert "idempotency_conflict" in printed


@pytest.mark.parametrize("page", ["descriptor.md", "errors.md"])
def test_reference_code_runs(page: str, server_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python of a page of the reference prints what the page shows."""
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    [(code, shown)] = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text, re.M | re.S)

    exec(compile(code.replace("127.0.0.1:8815", server_url.removeprefix("grpc://")), page, "exec"), {})

    assert shown in capsys.readouterr().out


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
