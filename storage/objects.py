"""A store in a bucket. What is common to all object stores: who was first, whose is what is there, until when to try.

"Already there" is a question, not an answer: a request whose answer was lost is sent again and meets its own earlier
success. So each object carries a mark that only its writer can know (its checksum, or the id of the attempt), and what
is there is looked at. That same look, after each upload, proves that the store has what was sent.

Some stores take ``If-None-Match`` and ignore it. On those, two catalogs could both win a root. So before its first
object, a store must refuse to create ``timestore.probe`` twice. It stays there, and is no object of ours.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from uuid import uuid4

from fsspec.asyn import get_loop

from storage.attempts import DeadlineAttempts
from storage.bucket import Blob, Bucket, BucketError, Marks, Trouble
from storage.checksums import checksum_of
from storage.location import Location
from storage.parts import PART_BYTES, PARTS_IN_FLIGHT, FileInParts
from storage.ranges import READ_BYTES, RangedReader
from storage.store import StoredObject
from timestore.errors import TimestoreError, error

PROBE_PATH = "timestore.probe"
DEADLINE_S = 60.0
# A store that has never answered is more likely misspelled than down, and at the start people wait.
FIRST_DEADLINE_S = 10.0
PAGE_SIZE = 1_000  # objects in one answer; no store gives more
LEAST_BYTES_PER_S = 1 << 20  # what a put may take beside the deadline

T = TypeVar("T")


class ObjectStore:
    """A store over any bucket. Its requests run on the event loop that all drivers share; callers are threads."""

    def __init__(
        self, *, location: Location, bucket: Bucket, deadline_s: float = DEADLINE_S, page_size: int = PAGE_SIZE
    ) -> None:
        self._location = location
        self._bucket = bucket
        self._deadline_s = deadline_s
        self._page_size = page_size
        self._slots = asyncio.Semaphore(PARTS_IN_FLIGHT)
        self._process = os.getpid()
        self._answered = False
        self._creates_once = False

    def put(self, source: Path, path: str) -> None:
        self._require_conditional_create()
        try:
            with source.open("rb") as file:
                size, marks = os.fstat(file.fileno()).st_size, {"checksum": checksum_of(file)}
            self._run(
                path,
                lambda attempts: attempts.repeat(
                    lambda: self._publish(attempts, path, source, size, marks), on=Trouble.CONFLICT
                ),
                extra_s=size / LEAST_BYTES_PER_S,
            )
        except OSError as exc:
            raise error(
                "storage_unavailable", f"{path} cannot be read from staging: {os.strerror(exc.errno or 0)}"
            ) from exc
        source.unlink()

    def put_bytes(self, content: bytes, path: str) -> bool:
        self._require_conditional_create()
        return self._create(content, path)

    def open(self, path: str) -> BinaryIO:
        blob = self._run(path, lambda attempts: self._bucket.stat(attempts, self._name(path)))
        if blob is None:
            raise FileNotFoundError(self.url(path))
        raw = RangedReader(size=blob.bytes, read=lambda start, size: self._read(path, start, size))
        return cast(BinaryIO, BufferedReader(raw, READ_BYTES))

    def stat(self, path: str) -> StoredObject | None:
        blob = self._run(path, lambda attempts: self._bucket.stat(attempts, self._name(path)))
        return None if blob is None else StoredObject(path=path, bytes=blob.bytes)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        after: str | None = None
        while True:
            page = self._run(
                prefix, partial(self._bucket.page, prefix=self._name(prefix), after=after, size=self._page_size)
            )
            for blob in page.blobs:
                path = blob.name.removeprefix(self._location.prefix)
                if path != PROBE_PATH:
                    yield StoredObject(path=path, bytes=blob.bytes)
            if (after := page.after) is None:
                return

    def delete(self, path: str) -> None:
        self._run(path, lambda attempts: self._bucket.delete(attempts, self._name(path)))

    def url(self, path: str) -> str:
        return f"{self._location.url}/{path}"

    def local_path(self, path: str) -> Path | None:  # noqa: ARG002  # of the seam
        return None

    def abort_uploads(self, older_than: timedelta) -> int:
        """Throw away what uploads sent that began so long ago, and were never finished; return of how many."""
        before = datetime.now(UTC) - older_than
        return self._run("", lambda attempts: self._bucket.abort_uploads(attempts, self._location.prefix, before))

    def _name(self, path: str) -> str:
        return f"{self._location.prefix}{path}"

    def _read(self, path: str, start: int, size: int) -> bytes:
        return self._run(path, lambda attempts: self._bucket.read(attempts, self._name(path), start, size))

    async def _publish(self, attempts: DeadlineAttempts, path: str, source: Path, size: int, marks: Marks) -> None:
        """Upload a file, then look what is there: after a failed attempt it may be its own, or another's."""
        name = self._name(path)
        file = FileInParts(path=source, size=size, slots=self._slots)
        conflict: BucketError | None = None
        try:
            if size <= PART_BYTES:
                await file.send(lambda _, content: self._bucket.create(attempts, name, content, marks))
            elif await self._bucket.stat(attempts, name) is None:  # else sending it all would be in vain
                await self._bucket.create_in_parts(attempts, name, file, marks)
            else:
                raise BucketError(Trouble.EXISTS, "there is an object of this name")
        except BucketError as exc:
            if exc.trouble not in (Trouble.EXISTS, Trouble.CONFLICT):
                raise
            conflict = exc
        found = await self._bucket.stat(attempts, name)
        if found is None:
            raise BucketError(Trouble.CONFLICT, "it took an upload and does not have it") from conflict
        if (found.bytes, found.marks.get("checksum")) != (size, marks["checksum"]):
            raise self._foreign(path, found, size, sent=conflict is None)

    def _create(self, content: bytes, path: str) -> bool:
        marks = {"attempt": uuid4().hex}
        return self._run(
            path,
            lambda attempts: attempts.repeat(
                lambda: self._create_once(attempts, self._name(path), content, marks), on=Trouble.CONFLICT
            ),
        )

    async def _create_once(self, attempts: DeadlineAttempts, name: str, content: bytes, marks: Marks) -> bool:
        try:
            await self._bucket.create(attempts, name, content, marks)
        except BucketError as exc:
            if exc.trouble not in (Trouble.EXISTS, Trouble.CONFLICT):
                raise
            if (found := await self._bucket.stat(attempts, name)) is None:
                raise BucketError(Trouble.CONFLICT, "it refuses to create an object that is not there") from exc
            return found.marks.get("attempt") == marks["attempt"]
        return True

    def _require_conditional_create(self) -> None:
        if self._creates_once:
            return
        self._create(b"", PROBE_PATH)
        if self._create(b"", PROBE_PATH):
            raise error(
                "unsupported",
                f"the object store behind {self._location.url} overwrites objects although it is told not to "
                "(If-None-Match), so two servers could spoil each other's; use one that heeds it",
            )
        self._creates_once = True

    def _foreign(self, path: str, found: Blob, size: int, *, sent: bool) -> TimestoreError:
        what = "what is there after an upload is not what was sent" if sent else "another object is already there"
        checksum = found.marks.get("checksum", "(none)")[:40]
        return error(
            "internal",
            f"{what}: {self.url(path)} has {found.bytes} bytes with checksum {checksum}, "
            f"not {size} bytes with ours; nothing was overwritten. Look whose it is",
        )

    def _run(self, path: str, work: Callable[[DeadlineAttempts], Coroutine[Any, Any, T]], *, extra_s: float = 0.0) -> T:
        """Do an operation on the drivers' event loop, and say what went wrong in our words."""
        if os.getpid() != self._process:
            raise error("internal", "a store cannot be used after a fork; open it in the process that uses it")
        deadline_s = self._deadline_s if self._answered else min(self._deadline_s, FIRST_DEADLINE_S)
        attempts = DeadlineAttempts(explain=self._bucket.explain, deadline_s=deadline_s + extra_s)
        try:
            result = asyncio.run_coroutine_threadsafe(work(attempts), get_loop()).result()
        except BucketError as exc:
            # What drivers say may hold signed URLs: it is left out, of tracebacks too.
            raise self._translated(exc, path) from None
        self._answered = True
        return result

    def _translated(self, exc: BucketError, path: str) -> TimestoreError:
        match exc.trouble:
            case Trouble.FULL:
                return error("disk_full", f"the object store is full at {self.url(path)}: {exc.advice}")
            case Trouble.EXISTS | Trouble.CONFLICT | Trouble.ABSENT | Trouble.TRANSIENT | Trouble.REFUSED:
                return error("storage_unavailable", f"the object store failed at {self.url(path)}: {exc.advice}")
