"""What leaves a buffer together: runs of rows of one partition, which become one data file."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from timestore.windows import TimeWindow
from writers.spill import Segment

ROW_GROUP = 122_880  # DuckDB's; a partial one costs about 1.3 times as much per row
LAST_CHUNK_ROWS = ROW_GROUP // 4  # what is left at the end of a put is cut for all writers, but not into less


@dataclass(frozen=True, slots=True)
class Part:
    """A run of rows in a routed batch."""

    segment: Segment
    start: int
    rows: int

    @property
    def bytes(self) -> int:
        """Return what these rows take, on average."""
        return self.segment.bytes * self.rows // max(self.segment.total_rows, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Rows of one partition that become one data file."""

    sequence: int  # in the order of its put
    window: TimeWindow
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """Return what the rows take, on average."""
        return sum(part.bytes for part in self.parts)


@dataclass(slots=True)
class Partition:
    """The gathered rows of one partition, in order."""

    window: TimeWindow
    parts: deque[Part] = field(default_factory=deque)
    rows: int = 0
    bytes: int = 0

    def add(self, part: Part) -> None:
        self.parts.append(part)
        self.rows += part.rows
        self.bytes += part.bytes

    def take_due(self, wanted_rows: int) -> list[Part]:
        """Take whole row groups from the front, about as many rows as wanted, or everything if there are fewer."""
        rows = min(self.rows, wanted_rows) // ROW_GROUP * ROW_GROUP
        return self.take(rows or self.rows)

    def take(self, rows: int) -> list[Part]:
        """Take so many rows from the front."""
        taken: list[Part] = []
        while rows:
            part = self.parts.popleft()
            if part.rows > rows:
                self.parts.appendleft(Part(part.segment, part.start + rows, part.rows - rows))
                part = Part(part.segment, part.start, rows)
            taken.append(part)
            rows -= part.rows
            self.rows -= part.rows
            self.bytes -= part.bytes
        self.bytes = self.bytes if self.parts else 0
        return taken
