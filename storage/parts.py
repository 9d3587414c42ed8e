"""Files in parts: memory stays bounded, however large they are and however many are sent at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

PART_BYTES = 8 << 20
PARTS_IN_FLIGHT = 8  # of all files of a store together: 64 MiB
MAX_PARTS = 10_000  # of S3; Azure takes more

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInParts:
    """A finished local file. ``slots`` are shared with all others: each part in memory takes one."""

    path: Path
    size: int
    slots: asyncio.Semaphore

    @property
    def part_bytes(self) -> int:
        """How large all parts but the last are: more for files that would have too many."""
        return PART_BYTES * max(1, -(-self.size // (PART_BYTES * MAX_PARTS)))

    async def send(self, send_part: Callable[[int, bytes], Awaitable[T]]) -> list[T]:
        tasks: list[asyncio.Task[T]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for number, start in enumerate(range(0, max(self.size, 1), self.part_bytes), start=1):
                    await self.slots.acquire()
                    task = group.create_task(self._send(send_part, number, start))
                    task.add_done_callback(lambda _: self.slots.release())  # also of a task that never began
                    tasks.append(task)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # it has cancelled the others
        return [task.result() for task in tasks]

    async def _send(self, send_part: Callable[[int, bytes], Awaitable[T]], number: int, start: int) -> T:
        return await send_part(number, await asyncio.to_thread(self._read, start))

    def _read(self, start: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(self.part_bytes)
