"""Where a line is wrong, and how: looked for only once a line is known to be."""

from __future__ import annotations

from dataclasses import dataclass

from http_gateway.influx.grammar import MEASUREMENT, NAME, PLAIN, STAMP, STRING
from timestore.errors import TimestoreError, error


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """What is wrong at a position of a line, which is counted in characters from 1."""

    position: int
    reason: str


def line_error(line: int, mistake: Mistake) -> TimestoreError:
    """Build the error of a wrong line; lines are counted from 1, and every newline of the request counts."""
    return error(
        "batch_invalid",
        f"line {line}, position {mistake.position}: {mistake.reason}; nothing of the request was stored",
        details={"line": line, "position": mistake.position},
    )


def find_mistake(text: str, start: int) -> Mistake:
    """Say what keeps ``LINE`` from matching the line that begins at ``start``."""
    at = _skip_spaces(text, start)
    try:
        _Reader(text, at).read_line()
    except _FoundError as found:
        return Mistake(position=found.at - start + 1, reason=found.reason)
    return Mistake(position=1, reason="this is not line protocol")  # not reached: both have the same grammar


def field_position(text: str, start: int, number: int) -> int:
    """Return the position of the value of a line's field, counted from 0; the line is well formed."""
    reader = _Reader(text, _skip_spaces(text, start))
    reader.read_series()
    reader.read_spaces()
    for _ in range(number):
        reader.read_field()
        reader.at += 1
    reader.read_field_name()
    return reader.at - start + 1


class _FoundError(Exception):
    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at = at
        self.reason = reason


class _Reader:
    """Reads a line step by step; raises ``_FoundError`` where it cannot go on."""

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at

    def read_line(self) -> None:
        self.read_series()
        self.read_spaces()
        self.read_field()
        while self._next() == ",":
            self.at += 1
            self.read_field()
        if self._ended():
            return
        if self._next() != " ":
            raise _FoundError(self.at, "a field's value must be followed by a comma, a space or the end of the line")
        self._read_stamp()

    def read_series(self) -> None:
        if self._next() == ",":
            raise _FoundError(self.at, "the measurement is missing")
        self._take(MEASUREMENT)
        while self._next() == ",":
            self.at += 1
            self._require(NAME, "a tag's name is missing")
            self._require_equals("a tag's name must be followed by '='")
            self._require(NAME, "a tag's value is missing; leave the tag out, an empty one cannot be told from none")
            if self._next() == "=":
                raise _FoundError(self.at, "an '=' in a tag's value must be escaped with a backslash")

    def read_spaces(self) -> None:
        if self._ended() or self._text[self.at :].split("\n", 1)[0].strip(" \r") == "":
            raise _FoundError(self.at, "the fields are missing: a space and name=value come after measurement and tags")
        self.at = _skip_spaces(self._text, self.at)

    def read_field(self) -> None:
        self.read_field_name()
        if self._next() == '"':
            self._require(STRING, "the string has no closing quote")
            return
        self._require(PLAIN, "a field's value is missing")

    def read_field_name(self) -> None:
        self._require(NAME, "a field's name is missing")
        self._require_equals("a field's name must be followed by '='")

    def _read_stamp(self) -> None:
        self.at = _skip_spaces(self._text, self.at)
        if self._ended():
            return
        if not (match := STAMP.match(self._text, self.at)):
            raise _FoundError(self.at, "the timestamp must be an integer; a space in a name or a tag is to be escaped")
        self.at = _skip_spaces(self._text, match.end())
        if not self._ended():
            raise _FoundError(self.at, "there is something after the timestamp")

    def _take(self, pattern: object) -> bool:
        match = pattern.match(self._text, self.at)  # type: ignore[attr-defined]
        if match:
            self.at = match.end()
        return bool(match)

    def _require(self, pattern: object, reason: str) -> None:
        if not self._take(pattern):
            raise _FoundError(self.at, reason)

    def _require_equals(self, reason: str) -> None:
        if self._next() != "=":
            raise _FoundError(self.at, reason)
        self.at += 1

    def _next(self) -> str:
        return self._text[self.at : self.at + 1]

    def _ended(self) -> bool:
        return self._text[self.at : self.at + 2].startswith(("\n", "\r\n")) or self._text[self.at :] in ("", "\r")


def _skip_spaces(text: str, at: int) -> int:
    while text[at : at + 1] == " ":
        at += 1
    return at
