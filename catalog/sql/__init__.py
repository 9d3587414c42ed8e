"""The catalog's SQL: ``queries.sql``, read once, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import LiteralString, cast

_NAMED = re.compile(r"^-- name: (\w+)\n(?:--.*\n)*([^;]*);$", re.MULTILINE)


def _load() -> dict[str, LiteralString]:
    text = files(__package__).joinpath("queries.sql").read_text(encoding="utf-8")
    return {name: cast(LiteralString, body) for name, body in _NAMED.findall(text)}


QUERIES: Mapping[str, LiteralString] = _load()
