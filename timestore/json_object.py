"""Read JSON objects strictly: known fields, right types, no duplicates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from timestore.errors import TimestoreError, error

MAX_JSON_BYTES = 1 << 20  # a descriptor, ticket or action body over 1 MiB is a mistake or an attack


class JsonObject:
    """A JSON object whose fields are taken one by one; ``finish`` refuses what nobody took.

    ``what`` names the object in messages. Every failure raises the error kind ``descriptor_invalid``.
    """

    def __init__(self, fields: Mapping[str, object], *, what: str) -> None:
        self._fields = dict(fields)
        self._what = what
        self._known: list[str] = []

    @classmethod
    def parse(cls, body: bytes, *, what: str) -> JsonObject:
        """Parse the UTF-8 JSON text of one object."""
        if len(body) > MAX_JSON_BYTES:
            raise _invalid(f"the {what} has {len(body)} bytes, at most {MAX_JSON_BYTES} are allowed")
        try:
            value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_fields, parse_constant=_refuse_constant)
            canonical_json(value).encode("utf-8")  # escapes can spell half characters, which nothing could store
        except (ValueError, RecursionError) as exc:
            raise _invalid(f"the {what} is not valid UTF-8 JSON: {exc}") from exc
        return cls.of(value, what=what)

    @classmethod
    def of(cls, value: object, *, what: str) -> JsonObject:
        """Take an already parsed value, which must be an object."""
        if not isinstance(value, dict):
            raise _invalid(f"the {what} must be a JSON object, not {_type_name(value)}")
        return cls(value, what=what)

    def version(self, supported: int = 1) -> None:
        """Take the field ``v``, which must be the protocol version spoken here."""
        found = self.integer("v")
        if found != supported:
            raise _invalid(f"the {self._what} has v={found}; this version speaks v={supported}")

    def has(self, name: str) -> bool:
        """Say whether a field is there, be it null."""
        return name in self._fields

    def text(self, name: str) -> str | None:
        value = self._take(name)
        if value is None or isinstance(value, str):
            return value
        raise self._mistyped(name, "text", value)

    def required_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise _invalid(f"the {self._what} lacks the field {name!r}")
        return value

    def choice(self, name: str, allowed: Iterable[str], default: str) -> str:
        value = self.text(name)
        if value is None:
            return default
        if value not in (options := list(allowed)):
            raise _invalid(f"the field {name!r} of the {self._what} is {value!r}; it may be one of {options}")
        return value

    def integer(self, name: str, *, minimum: int = 0) -> int | None:
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._mistyped(name, "an integer", value)
        if not minimum <= value < 2**63:
            raise _invalid(f"the field {name!r} of the {self._what} is {value}; it must be at least {minimum}")
        return value

    def number(self, name: str, *, minimum: float = 0) -> float | None:
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._mistyped(name, "a number", value)
        if not minimum <= value <= 1e15:
            raise _invalid(f"the field {name!r} of the {self._what} is {value}; it must be at least {minimum}")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._take(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._mistyped(name, "true or false", value)

    def texts(self, name: str) -> list[str] | None:
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._mistyped(name, "a list of texts", value)
        return value

    def text_map(self, name: str) -> dict[str, str] | None:
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._mistyped(name, "an object of texts", value)
        return value

    def all_texts(self) -> dict[str, str]:
        """Take every field, each of which must be a text."""
        taken = {name: self.required_text(name) for name in self._fields}
        self.finish()
        return taken

    def all_integers(self) -> dict[str, int]:
        """Take every field, each of which must be an integer that is not negative."""
        taken = {name: value for name in self._fields if (value := self.integer(name)) is not None}
        self.finish()
        return taken

    def child(self, name: str) -> JsonObject | None:
        value = self._take(name)
        return None if value is None else JsonObject.of(value, what=f"field {name!r} of the {self._what}")

    def finish(self) -> None:
        """Refuse fields that nobody took."""
        if unknown := sorted(set(self._fields) - set(self._known)):
            raise _invalid(
                f"the {self._what} has the unknown field(s) {unknown}; known are {sorted(self._known)}",
            )

    def _take(self, name: str) -> object:
        self._known.append(name)
        return self._fields.get(name)

    def _mistyped(self, name: str, expected: str, value: object) -> TimestoreError:
        return _invalid(f"the field {name!r} of the {self._what} must be {expected}, not {_type_name(value)}")


def canonical_json(value: object) -> str:
    """Write JSON in the one form used for comparing and hashing: sorted fields, no spaces, plain UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse_int64(text: str) -> int:
    """Read a 64-bit integer in the one spelling that ``str`` gives it; raise ``ValueError`` for anything else."""
    value = int(text) if len(text) <= 20 else 2**63
    if str(value) != text or not -(2**63) <= value < 2**63:
        raise ValueError("not a 64-bit integer")
    return value


def _unique_fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice in one object")
    return fields


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _type_name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _invalid(message: str) -> TimestoreError:
    return error("descriptor_invalid", message)
