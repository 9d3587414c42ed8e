"""The points of one measurement, gathered as columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from http_gateway.influx.columns import NAMES, Texts, ValueMistakeError, to_array, to_stamps
from http_gateway.influx.grammar import plain_name
from timestore.errors import TimestoreError, error

LINE_COLUMN = "line"
STAMP_COLUMN = "stamp"
PLACE_COLUMNS = 2
TAG = "tag:"
FIELD = "field:"

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """The points of one measurement, in any order: ``stamp`` and ``line`` say where each belongs.

    ``columns`` has ``stamp``, in nanoseconds and null where the line has none, ``line``, counted from 1, and a column
    for each tag and each field, named with the prefixes ``TAG`` and ``FIELD``: a tag and a field may be namesakes.
    """

    measurement: str
    columns: pa.Table

    @property
    def tags(self) -> dict[str, pa.ChunkedArray]:
        return self._named(TAG)

    @property
    def fields(self) -> dict[str, pa.ChunkedArray]:
        return self._named(FIELD)

    def _named(self, prefix: str) -> dict[str, pa.ChunkedArray]:
        names = (name for name in self.columns.column_names if name.startswith(prefix))
        return {name.removeprefix(prefix): self.columns.column(name) for name in names}


@dataclass(slots=True)
class Shape:
    """Lines with the same field names, as they are spelled; in the order of the lines."""

    names: tuple[str, ...]
    values: list[tuple[str, ...]] = field(default_factory=list)
    tags: list[Tags] = field(default_factory=list)
    stamps: list[str | None] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


# Raises the error of a value: the line's number, the number of its field, -1 for the timestamp, and what is wrong.
Blame = Callable[[int, int, str], TimestoreError]


class Measurement:
    """Gathers the points of one measurement, block by block."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells = 0  # values of all points together, those that are null included
        self._rows = 0
        self._names: set[str] = set()
        self._types: dict[str, tuple[pa.DataType, int]] = {}  # by field; with the line that was the first to have it
        self._blocks: list[pa.Table] = []

    def count(self, shapes: Sequence[Shape]) -> None:
        """Take into account what is to be added."""
        self._rows += sum(len(shape.lines) for shape in shapes)
        self._names.update(name for shape in shapes for name in shape.names)
        self._names.update(name for shape in shapes for tags in set(shape.tags) for name, _ in tags)
        self.cells = self._rows * (len(self._names) + PLACE_COLUMNS)

    def add(self, shapes: Sequence[Shape], *, ns_per_unit: int, blame: Blame) -> None:
        """Convert what a block of lines has for this measurement."""
        stamps = _converted(
            [stamp for shape in shapes for stamp in shape.stamps],
            partial(to_stamps, ns_per_unit=ns_per_unit),
            lambda row, reason: blame(_line_at(shapes, row), -1, reason),
        )
        lines = pa.array([line for shape in shapes for line in shape.lines], pa.int64())
        fields = self._fields(shapes, blame)
        self._blocks.append(pa.table({STAMP_COLUMN: stamps, LINE_COLUMN: lines} | _tags(shapes) | fields))

    def points(self) -> Points:
        columns = pa.concat_tables(self._blocks, promote_options="default")
        return Points(measurement=self.name, columns=columns)

    def _fields(self, shapes: Sequence[Shape], blame: Blame) -> dict[str, pa.Array]:
        columns = {
            name: _converted(texts, to_array, partial(_blame_field, shapes, name, blame))
            for name, texts in _texts(shapes).items()
        }
        for name, column in columns.items():
            self._check_type(name, column, shapes)
        return {FIELD + name: column for name, column in columns.items()}

    def _check_type(self, name: str, column: pa.Array, shapes: Sequence[Shape]) -> None:
        """Compare a field's type with that of the blocks before."""
        line = next(shape.lines[0] for shape in shapes if name in map(plain_name, shape.names))
        known, first = self._types.setdefault(name, (column.type, line))
        if known != column.type:
            raise error(
                "batch_invalid",
                f"the field {name!r} of the measurement {self.name!r} is {NAMES[column.type]} in line {line}, and "
                f"{NAMES[known]} in line {first}; a field has one type",
                details={"measurement": self.name, "field": name, "line": line},
            )


def _texts(shapes: Sequence[Shape]) -> dict[str, Texts]:
    """Return the values of each field as the lines spell them, null where a line has none."""
    by_shape = [dict(zip(map(plain_name, each.names), zip(*each.values, strict=True), strict=True)) for each in shapes]
    if len(by_shape) == 1:
        return dict(by_shape[0])
    gathered: dict[str, list[str | None]] = {name: [] for columns in by_shape for name in columns}
    for shape, columns in zip(shapes, by_shape, strict=True):
        missing = (None,) * len(shape.lines)
        for name, texts in gathered.items():
            texts.extend(columns.get(name, missing))
    return dict(gathered)


def _tags(shapes: Sequence[Shape]) -> dict[str, pa.Array]:
    """Return a column for each tag; points of one series share its tags, so that each is looked at once."""
    numbers: dict[Tags, int] = {}
    indices = pa.array([numbers.setdefault(tags, len(numbers)) for each in shapes for tags in each.tags], pa.int32())
    series = [dict(tags) for tags in numbers]
    names = dict.fromkeys(name for tags in series for name in tags)
    return {TAG + name: pa.array([tags.get(name) for tags in series], pa.string()).take(indices) for name in names}


def _converted(
    texts: Texts, convert: Callable[[Texts], pa.Array], blame: Callable[[int, str], TimestoreError]
) -> pa.Array:
    try:
        return convert(texts)
    except ValueMistakeError as mistake:
        raise blame(mistake.row, mistake.reason) from None


def _blame_field(shapes: Sequence[Shape], name: str, blame: Blame, row: int, reason: str) -> TimestoreError:
    for shape in shapes:
        if row < len(shape.lines):
            number = [plain_name(each) for each in shape.names].index(name)
            return blame(shape.lines[row], number, f"field {name!r}: {reason}")
        row -= len(shape.lines)
    raise AssertionError("a row of no shape")


def _line_at(shapes: Sequence[Shape], row: int) -> int:
    return [line for shape in shapes for line in shape.lines][row]
