"""Pages of tables: at most so many items, and a cursor for the next ones that says nothing to anybody else."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from timestore.errors import TimestoreError, error
from timestore.json_object import canonical_json

PAGE_ITEMS = 500

Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=PAGE_ITEMS, description="Items of a page, at most.")]
Cursor = Annotated[str | None, Query(max_length=4096, description="Where to go on: `next` of the page before.")]


def page(
    found: Sequence[Item],
    limit: int,
    *,
    render: Callable[[Item], dict[str, Any]],
    position: Callable[[Item], list[str]],
) -> dict[str, Any]:
    """Make a page of items that were found, of which one more than ``limit`` says that there is another page."""
    items = found[:limit]
    following = encode_cursor(position(items[-1])) if len(found) > limit else None
    return {"items": [render(item) for item in items], "next": following}


def encode_cursor(parts: list[str]) -> str:
    return base64.urlsafe_b64encode(canonical_json(parts).encode()).decode().rstrip("=")


def decode_cursor(text: str | None, *, length: int) -> list[str] | None:
    """Read a cursor of so many parts; raises ``descriptor_invalid``."""
    if text is None:
        return None
    try:
        parts = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as exc:
        raise _foreign() from exc
    if not isinstance(parts, list) or len(parts) != length or not all(isinstance(part, str) for part in parts):
        raise _foreign()
    return parts


def integer_of(text: str) -> int:
    """Read a number in a cursor; raises ``descriptor_invalid``."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _foreign()
    return int(text)


def _foreign() -> TimestoreError:
    return error("descriptor_invalid", "the cursor is not one that a page of this table gave as next")
