"""Names that clients give: datasets, semantic keys, idempotency keys. Parsed once, at the door."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from timestore.errors import TimestoreError, error

MAX_NAME_LENGTH = 128
MAX_KEY_VALUE_BYTES = 256
MAX_IDEMPOTENCY_KEY_LENGTH = 256
MAX_KEY_PARTS = 16

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}\Z")
_NAME_RULE = f"a letter, then up to {MAX_NAME_LENGTH - 1} letters, digits, '_' or '-'"


def parse_dataset_name(text: str) -> str:
    """Check the name of a dataset; raise ``name_invalid``."""
    if not _NAME.match(text):
        raise _invalid(f"the dataset name {_shown(text)} is not allowed: use {_NAME_RULE}", value=text)
    return text


def parse_idempotency_key(text: str) -> str:
    """Check an idempotency key: 1 to 256 bytes of printable ASCII; raise ``name_invalid``."""
    if not 1 <= len(text) <= MAX_IDEMPOTENCY_KEY_LENGTH or not all(" " <= char <= "~" for char in text):
        raise _invalid(
            f"the idempotency key {_shown(text)} is not allowed: use 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} "
            "printable ASCII characters",
            value=text,
        )
    return text


@dataclass(frozen=True, slots=True)
class PartitionKey:
    """The semantic key of a stream: names with values, sorted by name; may be empty."""

    parts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> PartitionKey:
        """Check names and values of a key; raise ``name_invalid``."""
        if len(values) > MAX_KEY_PARTS:
            raise _invalid(f"the key has {len(values)} parts, at most {MAX_KEY_PARTS} are allowed", value=len(values))
        if len({name.lower() for name in values}) != len(values):
            raise _invalid(f"the key's names {sorted(values)} are not unique ignoring case", value=sorted(values))
        for name, value in values.items():
            _check_part(name, value)
        return cls(tuple(sorted(values.items())))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.parts)

    def as_dict(self) -> dict[str, str]:
        return dict(self.parts)

    def __str__(self) -> str:
        return "/".join(f"{name}={value}" for name, value in self.parts) or "(no key)"


NO_KEY = PartitionKey()


def _check_part(name: str, value: str) -> None:
    if not _NAME.match(name):
        raise _invalid(f"the key name {_shown(name)} is not allowed: use {_NAME_RULE}", value=name)
    problem = _value_problem(value)
    if problem:
        raise _invalid(f"the value {_shown(value)} of the key part {name!r} is not allowed: {problem}", value=value)


def _value_problem(value: str) -> str | None:
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not 1 <= size <= MAX_KEY_VALUE_BYTES:
        return f"it has {size} bytes, 1 to {MAX_KEY_VALUE_BYTES} are allowed"
    if any(unicodedata.category(char) == "Cc" for char in value):
        return "it has control characters"
    if not unicodedata.is_normalized("NFC", value):
        return "it is not in Unicode normal form C"
    return None


def _shown(text: str) -> str:
    """Quote a name for a message: escaped, and cut if it is long."""
    return ascii(text if len(text) <= MAX_NAME_LENGTH else text[:MAX_NAME_LENGTH] + "...")


def _invalid(message: str, *, value: object) -> TimestoreError:
    return error("name_invalid", message, details={"value": ascii(value)[:300]})
