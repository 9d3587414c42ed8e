"""The parser: text in pieces of any size in, points by measurement out.

Python sees a line as a few strings: two matches of a regular expression take it apart, values become numbers a column
at a time. Text is taken in blocks, of which nothing but Arrow data is kept, so memory follows from the limits here.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass

from http_gateway.influx.grammar import FIELDS, LINE, MEASUREMENT, TAG, plain_measurement, plain_name
from http_gateway.influx.measurement import Measurement, Points, Shape, Tags
from http_gateway.influx.mistakes import Mistake, field_position, find_mistake, line_error
from timestore.errors import TimestoreError, error

PIECE_BYTES = 1 << 18
BLOCK_CHARACTERS = 1 << 20
MAX_LINE_CHARACTERS = 1 << 20
MAX_MEASUREMENTS = 1_000
MAX_CELLS = 4_000_000  # values, and gaps between them
LARGE_CHARACTERS = 1 << 20
LARGE_CELLS = 500_000

PRECISIONS = {
    "n": 1,
    "ns": 1,
    "u": 1_000,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


@dataclass(frozen=True, slots=True)
class _Series:
    """What stands before the fields of a line."""

    measurement: str
    tags: Tags


def parse_precision(text: str) -> int:
    """Return the nanoseconds of a unit of time; raises ``descriptor_invalid``."""
    if text not in PRECISIONS:
        raise error("descriptor_invalid", f"the precision {text[:40]!a} is not one of {', '.join(PRECISIONS)}")
    return PRECISIONS[text]


class LineParser:
    """Parses one request. Feed it, then finish it.

    Both raise ``batch_invalid`` for what is not line protocol, naming line and position, and ``batch_too_large``.
    """

    def __init__(self, *, ns_per_unit: int, becomes_large: Callable[[], None] = lambda: None) -> None:
        self._ns_per_unit = ns_per_unit
        self._becomes_large = becomes_large  # called once, before a request takes much memory; may wait, or raise
        self._is_large = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._pending = bytearray()  # so that tiny pieces do not cost more than others
        self._text = ""  # from the beginning of a block
        self._lines = 0  # before the block
        self._measurements: dict[str, Measurement] = {}

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the request."""
        self._pending += data
        if len(self._pending) >= PIECE_BYTES:
            self._decode(last=False)
            if len(self._text) >= LARGE_CHARACTERS:
                self._note_large()
            if len(self._text) >= BLOCK_CHARACTERS:
                self._take_block(last=False)

    def finish(self) -> list[Points]:
        """Take the end of the request, and return its points, in the order in which measurements came."""
        self._decode(last=True)
        self._take_block(last=True)
        return [measurement.points() for measurement in self._measurements.values()]

    def _decode(self, *, last: bool) -> None:
        try:
            self._text += self._decoder.decode(self._pending, last)
        except UnicodeDecodeError as exc:
            before = self._text + exc.object[: exc.start].decode()
            line, position = self._lines + before.count("\n") + 1, len(before) - before.rfind("\n")
            raise line_error(line, Mistake(position=position, reason="this is not valid UTF-8")) from exc
        self._pending.clear()

    def _take_block(self, *, last: bool) -> None:
        block = _Block(self._text, lines_before=self._lines, last=last)
        block.read()
        for name, shapes in block.shapes.items():
            measurement = self._measurements.setdefault(name, Measurement(name))
            measurement.count(list(shapes.values()))
        self._check_limits()  # before anything is as large as that
        for name, shapes in block.shapes.items():
            rows = list(shapes.values())
            self._measurements[name].add(rows, ns_per_unit=self._ns_per_unit, blame=block.blame)
        self._text = self._text[block.end :]
        self._lines = block.lines

    def _check_limits(self) -> None:
        if (count := len(self._measurements)) > MAX_MEASUREMENTS:
            what = f"the request has {count} measurements or more, and may have {MAX_MEASUREMENTS}"
            raise _too_large(what, limit=MAX_MEASUREMENTS, actual=count)
        cells = sum(each.cells for each in self._measurements.values())
        if cells > LARGE_CELLS:
            self._note_large()
        if cells > MAX_CELLS:
            raise _too_large(
                f"the request has {cells} values, those that lines leave out included, and may have {MAX_CELLS}",
                limit=MAX_CELLS,
                actual=cells,
            )

    def _note_large(self) -> None:
        if not self._is_large:
            self._is_large = True
            self._becomes_large()


class _Block:
    """Some lines, taken apart. ``shapes`` has them by measurement and names of fields."""

    def __init__(self, text: str, *, lines_before: int, last: bool) -> None:
        self.shapes: dict[str, dict[tuple[str, ...], Shape]] = {}
        self.end = 0  # where the next block begins
        self.lines = lines_before
        self._lines_before = lines_before
        self._text = text
        self._last = last
        self._series: dict[str, _Series] = {}  # by how it is spelled

    def read(self) -> None:
        text, at, line = self._text, 0, self._lines_before + 1
        match, names_and_values = LINE.match, FIELDS.findall
        while at < len(text):
            found = match(text, at)
            if found is None or (found.end() == len(text) and text[-1] != "\n" and not self._last):
                if self._last or len(text) - at > MAX_LINE_CHARACTERS:
                    raise self._mistake(line, at)
                break
            head, fields, stamp = found.groups()
            if head is not None:
                names, values = zip(*names_and_values(fields), strict=True)
                self._add(head, names, values, stamp, line)
                line += fields.count("\n")
            line += 1
            at = found.end()
        self.end = at
        self.lines = line - 1

    def blame(self, line: int, field_number: int, reason: str) -> TimestoreError:
        """Build the error of a value, the position of which is looked for now."""
        at, number = 0, self._lines_before + 1
        while number < line:
            found = LINE.match(self._text, at)
            assert found is not None  # it did when the block was read
            number += 1 + (found.group(2) or "").count("\n")
            at = found.end()
        position = field_position(self._text, at, field_number) if field_number >= 0 else self._stamp_position(at)
        return line_error(line, Mistake(position=position, reason=reason))

    def _add(self, head: str, names: tuple[str, ...], values: tuple[str, ...], stamp: str | None, line: int) -> None:
        series = self._series.get(head) or self._new_series(head, line)
        shapes = self.shapes.get(series.measurement)
        if shapes is None:
            shapes = self.shapes[series.measurement] = {}
        shape = shapes.get(names)
        if shape is None:
            shape = shapes[names] = Shape(names)
            _check_twice([plain_name(name) for name in names], "field", line)
        shape.values.append(values)
        shape.tags.append(series.tags)
        shape.stamps.append(stamp)
        shape.lines.append(line)

    def _new_series(self, head: str, line: int) -> _Series:
        name = MEASUREMENT.match(head)
        assert name is not None  # the line has matched
        measurement = plain_measurement(name.group())
        found = [(plain_name(tag), plain_name(value)) for tag, value in TAG.findall(head, name.end())]
        _check_twice([tag for tag, _ in found], "tag", line)
        series = self._series[head] = _Series(measurement, tuple(sorted(found)))
        return series

    def _stamp_position(self, at: int) -> int:
        found = LINE.match(self._text, at)
        assert found is not None
        return found.start(3) - at + 1

    def _mistake(self, line: int, at: int) -> TimestoreError:
        if len(self._text) - at > MAX_LINE_CHARACTERS and not self._last:
            return _too_large(
                f"line {line} has more than {MAX_LINE_CHARACTERS} characters, or a string in it has no end",
                limit=MAX_LINE_CHARACTERS,
                actual=len(self._text) - at,
            )
        return line_error(line, find_mistake(self._text, at))


def _check_twice(names: list[str], what: str, line: int) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise line_error(line, Mistake(position=1, reason=f"the {what} {twice[:100]!r} is there twice"))


def _too_large(what: str, *, limit: int, actual: int) -> TimestoreError:
    return error("batch_too_large", f"{what}; split it", details={"limit": limit, "actual": actual})
