"""The uploads of one put: which files wait for theirs, and of which bytes may land when nobody waits any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from catalog.records import NewSlice
from storage.store import Store
from storage.targets import about_target
from timestore.errors import TimestoreError
from writers.put import Cancelled, cancelled
from writers.staging_room import Place, StagingRoom
from writers.uploads import Upload, Uploads

LEAST_PLACE_BYTES = 1 << 20  # of a staged file: a small one is larger than its rows
LOOK_AGAIN_S = 1.0  # whether the client is still there


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """A finished file in staging, and the slice that it becomes."""

    sequence: int  # in the order of its put
    source: Path
    slice: NewSlice


class PutUploads:
    """What one put has uploaded. Thread safe."""

    def __init__(
        self,
        *,
        uploads: Uploads,
        room: StagingRoom,
        storage: str,
        store: Store,
        has_failed: Callable[[], bool],
        landed: Callable[[WrittenFile], None],
        fail: Callable[[TimestoreError], None],
        took: Callable[[float], None],
    ) -> None:
        self._uploads = uploads
        self._room = room
        self._storage = storage
        self._store = store
        self._has_failed = has_failed
        self._landed = landed
        self._fail = fail
        self._took = took  # hears how many seconds each took, however it ended
        self._ended = threading.Condition()
        self._under_way: set[UUID] = set()
        self._given: set[UUID] = set()  # all of them, ended or not

    def write(self, write: Callable[[], WrittenFile], *, rows_bytes: int) -> None:
        """Write a file when there is room for it in staging, and have it uploaded. Called by a writer."""
        place = self._room.take(max(LEAST_PLACE_BYTES, rows_bytes), is_wanted=lambda: not self._has_failed())
        if place is None:
            return
        try:
            written = write()
            place.resize(written.slice.bytes)
            self._submit(written, place)
        except BaseException:
            place.give_back()
            raise

    def wait(self, is_cancelled: Cancelled) -> None:
        """Wait until every upload has ended well, or the put has failed; raises ``cancelled``.

        Each upload ends within a time, whatever the store does: see ``Uploads``.
        """
        while self._under_way and not self._has_failed():
            if is_cancelled():
                raise cancelled()
            with self._ended:
                self._ended.wait_for(lambda: not self._under_way or self._has_failed(), timeout=LOOK_AGAIN_S)

    def cancel(self) -> set[UUID]:
        """Drop what has not begun, and return the files that may land at any later time, or have landed."""
        return self._given - self._uploads.cancel(self)

    def _submit(self, written: WrittenFile, place: Place) -> None:
        file_id = written.slice.holder_id
        with self._ended:
            self._under_way.add(file_id)
            self._given.add(file_id)
        self._uploads.submit(
            Upload(
                owner=self,
                file_id=file_id,
                source=written.source,
                store=self._store,
                path=written.slice.path,
                place=place,
                ended=partial(self._end, written, time.perf_counter()),
            )
        )

    def _end(self, written: WrittenFile, submitted: float, failure: TimestoreError | None) -> None:
        """Hear how an upload ended, on any thread."""
        self._took(time.perf_counter() - submitted)
        try:
            with about_target(self._storage):
                if failure is not None:
                    raise failure
            self._landed(written)
        except TimestoreError as exc:
            self._fail(exc)
        with self._ended:
            self._under_way.discard(written.slice.holder_id)
            self._ended.notify_all()
