"""What the documents' navigation has without being listed in ``mkdocs.yml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Add all decisions, by number: there is a new one every few weeks."""
    docs = Path(config["docs_dir"])
    decisions = sorted(page.relative_to(docs).as_posix() for page in docs.glob("decisions/[0-9]*.md"))
    config["nav"].append({"Decisions": decisions})
    return config
