"""What queries say of rows: which, of which version."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from timestore.errors import error
from timestore.names import PartitionKey
from timestore.reading import AsOf, Selection
from timestore.windows import parse_instant

Version = Annotated[int | None, Query(ge=0, lt=2**63, description="A version; without it the newest.")]
AsOfTime = Annotated[str | None, Query(description="The version that was current at this RFC 3339 time.")]
Keys = Annotated[list[str] | None, Query(description="A part of the key that must match, `name=value`; repeatable.")]
From = Annotated[str | None, Query(alias="from", description="At this RFC 3339 time or later.")]
To = Annotated[str | None, Query(alias="to", description="Before this RFC 3339 time.")]


def parse_as_of(version: int | None, moment: str | None) -> AsOf:
    """Parse which version is wanted; raises ``descriptor_invalid``."""
    if version is not None and moment is not None:
        raise error("descriptor_invalid", "give either version or as_of, not both")
    return AsOf(version=version, moment=parse_instant(moment) if moment is not None else None)


def parse_selection(
    *,
    key: PartitionKey,
    start: str | None,
    end: str | None,
    columns: list[str] | None = None,
    with_key: bool = False,
) -> Selection:
    """Parse which rows and columns are wanted; raises ``descriptor_invalid``."""
    if columns is not None and len(set(columns)) != len(columns):
        raise error("descriptor_invalid", "a column is named twice")
    return Selection(
        key=key,
        columns=tuple(columns) if columns else None,
        start=parse_instant(start) if start is not None else None,
        end=parse_instant(end) if end is not None else None,
        with_key=with_key,
    )
