"""The seam below the store: what differs between one object store and another.

A bucket answers requests as the driver's event loop runs them. It knows neither Timestore's layout nor deadlines:
``storage.objects`` makes a store of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")

Marks = Mapping[str, str]  # metadata of an object, by which its writer knows it again; names of letters and digits


class Trouble(Enum):
    """What went wrong with a request, by what is to be done about it."""

    EXISTS = auto()  # another object is there: look whose it is
    CONFLICT = auto()  # something else was going on with this name: look, and start over if nothing is there
    ABSENT = auto()  # there is no such object
    TRANSIENT = auto()  # the same request may succeed in a moment
    FULL = auto()  # there is no room
    REFUSED = auto()  # somebody has to change something


class BucketError(Exception):
    """A request that failed. ``advice`` is a sentence of ours for people; what a driver said is not repeated in it."""

    def __init__(self, trouble: Trouble, advice: str) -> None:
        super().__init__(advice)
        self.trouble = trouble
        self.advice = advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """What a bucket knows about one object; listings leave out its marks."""

    name: str
    bytes: int
    marks: Marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a listing, and where the next one begins; None after the last."""

    blobs: list[Blob]
    after: str | None


class Attempts(Protocol):
    """Repeats single requests of one operation as long as that makes sense."""

    async def __call__(self, request: Callable[[], Awaitable[T]]) -> T:
        """Return what a request gives; raises ``BucketError``, and of that ``TRANSIENT`` only at the deadline."""
        ...


class PartedFile(Protocol):
    """A local file that is sent in parts, some of them at once."""

    @property
    def size(self) -> int: ...

    @property
    def path(self) -> Path: ...

    async def send(self, send_part: Callable[[int, bytes], Awaitable[T]]) -> list[T]:
        """Call ``send_part`` with the number (from 1) and the content of each part; return the answers in order."""
        ...


class Bucket(Protocol):
    """Objects by name. Every method may run any number of times at once on the driver's event loop."""

    async def create(self, attempts: Attempts, name: str, content: bytes, marks: Marks) -> None:
        """Create an object unless there is one; the service checks that it got what was sent."""
        ...

    async def create_in_parts(self, attempts: Attempts, name: str, file: PartedFile, marks: Marks) -> None:
        """Create a big object unless there is one. It appears at the end, whole; a failure leaves no parts behind."""
        ...

    async def stat(self, attempts: Attempts, name: str) -> Blob | None:
        """Look an object up, with its marks."""
        ...

    async def read(self, attempts: Attempts, name: str, start: int, size: int) -> bytes:
        """Read a range that lies within the object, and is not empty."""
        ...

    async def page(self, attempts: Attempts, prefix: str, after: str | None, size: int) -> Page:
        """List at most ``size`` objects whose name begins with the prefix, as they are now."""
        ...

    async def delete(self, attempts: Attempts, name: str) -> None:
        """Delete an object, and what was ever sent for it and not finished; nothing there is no error."""
        ...

    async def abort_uploads(self, attempts: Attempts, prefix: str, before: datetime) -> int:
        """Throw away the parts of uploads that began before; return of how many."""
        ...

    def explain(self, exc: Exception) -> BucketError | None:
        """Say what a driver's exception means; None for one that no driver raises."""
        ...
