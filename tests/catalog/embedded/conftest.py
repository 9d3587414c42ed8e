"""An embedded Postgres for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.embedded import EmbeddedPostgres


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where Postgres goes; neither it nor its parent exists yet."""
    return tmp_path / "data" / "postgres"


@pytest.fixture
def postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres that a test may start; it is stopped afterwards."""
    instance = EmbeddedPostgres(directory=directory)
    yield instance
    instance.stop()
