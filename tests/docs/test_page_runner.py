"""What runs the pages tells right from wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.documents import PageRun, appears, blocks_of, commands_of, matches

PAGE = """# A page

```csv title="rows.csv"
a,b
```

```console
$ cd . && MADE=here && export MADE
$ cat rows.csv; \\
    echo $MADE
a,...
here
```

```python
from pathlib import Path

first = Path("rows.csv").read_text().strip()
```

```python
import asyncio

await asyncio.sleep(0)
print(first)
```

```text
SHOWN
```
"""


@pytest.mark.parametrize(
    ("shown", "came", "same"),
    [
        ("one", "one\n", True),
        ("one", "two", False),
        ("one", "one\ntwo", False),
        ("a ... c", "a b c", True),
        ("a ... c", "a b\nc", False),
        ("first\n...\nlast", "first\n1\n2\nlast", True),
        ("a.c", "abc", False),
    ],
)
def test_dots_stand_for_anything_and_nothing_else_does(shown: str, came: str, same: bool) -> None:
    """Output must be what is shown, except for the dots."""
    assert matches(shown, came) is same


def test_line_appears_among_others() -> None:
    """What a server prints is looked for among its log lines, whole."""
    assert appears("ready at ...", "log\nready at 8815\nlog")
    assert not appears("ready at ...", "log\nnot ready at 8815\nlog")


def test_blocks_and_commands_are_found() -> None:
    """Titles, continued commands and shown output are read as they stand."""
    file, console, code, _, text = blocks_of(PAGE)

    assert (file.title, file.language) == ("rows.csv", "csv")
    assert [command.shown for command in commands_of(console)] == ["", "a,...\nhere"]
    assert (code.line, text.follows) == (15, True)


@pytest.mark.parametrize(("shown", "right"), [("a,b", True), ("a,c", False)])
def test_page_that_shows_something_else_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, right: bool):
    """A page whose output is not what comes back does not pass."""
    directory = tmp_path / "reader"
    directory.mkdir()
    monkeypatch.chdir(directory)
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("SHOWN", shown), encoding="utf-8")

    with PageRun(directory) as run:
        if right:
            run.run(page)
        else:
            with pytest.raises(AssertionError, match="line 21"):
                run.run(page)


def test_failed_command_fails_the_page(tmp_path: Path) -> None:
    """A command that shows no output must end with 0."""
    (tmp_path / "reader").mkdir()
    with PageRun(tmp_path / "reader") as run, pytest.raises(AssertionError, match="ended with 3"):
        run.type("(exit 3)")
