"""What callers give as plain Python values, parsed at the door."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from timestore.datasets import CreateOptions
from timestore.descriptor import Landing
from timestore.errors import error
from timestore.json_object import JsonObject
from timestore.reading import AsOf


def landing_of(name: str) -> Landing:
    """Parse the name of a landing; raises ``descriptor_invalid``."""
    try:
        return Landing(name)
    except ValueError as exc:
        raise error(
            "descriptor_invalid", f"the landing {name!r} is not one of {[str(form) for form in Landing]}"
        ) from exc


def create_options(create: Mapping[str, Any] | None) -> CreateOptions | None:
    """Parse the options of ``create``; raises ``descriptor_invalid``."""
    if create is None:
        return None
    fields = JsonObject.of(dict(create), what="create options")
    options = CreateOptions.from_json(fields)
    fields.finish()
    return options


def aware(moment: datetime | None) -> datetime | None:
    """Refuse a time without a zone: it would mean another instant on every machine."""
    if moment is not None and moment.tzinfo is None:
        raise error("descriptor_invalid", f"the time {moment} has no zone; use datetime(..., tzinfo=UTC)")
    return moment


def as_of_of(version: int | None, moment: datetime | None) -> AsOf:
    """Take a version's number or an instant; both at once are refused."""
    if version is not None and moment is not None:
        raise error("descriptor_invalid", "give either version or as_of, not both")
    return AsOf(version=version, moment=aware(moment))
