"""Uploads: every one is reported within a time, whatever the store does, and staging keeps to its limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage.local import LocalStore
from tests.fixtures.server import wait_until
from tests.fixtures.stores import DistantStore, Hangs
from timestore.errors import TimestoreError
from writers.staging_room import StagingRoom
from writers.uploads import STUCK_FOR_EACH, Upload, Uploads

NEVER_S = 3_600.0
SIZE = 10


class World:
    """A store elsewhere, a staging directory, and what uploads reported."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "data"
        self.staging = directory / "staging"
        self.staging.mkdir()
        self.store = DistantStore(LocalStore(root=self.root))
        self.room = StagingRoom(limit_bytes=1 << 30)
        self.ended: dict[UUID, TimestoreError | None] = {}

    @contextmanager
    def uploads(self, *, threads: int = 1, timeout_s: float = NEVER_S) -> Iterator[Uploads]:
        """Run uploads."""
        uploads = Uploads(threads=threads, timeout_s=timeout_s)
        yield uploads
        uploads.close()

    def upload(self, name: str, *, owner: object = None) -> Upload:
        """Stage a file."""
        file_id, source = uuid4(), self.staging / name
        source.write_bytes(b"x" * SIZE)
        place = self.room.take(SIZE, is_wanted=lambda: True)
        assert place is not None

        def ended(failure: TimestoreError | None) -> None:
            assert file_id not in self.ended
            self.ended[file_id] = failure

        return Upload(
            owner=owner, file_id=file_id, source=source, store=self.store, path=name, place=place, ended=ended
        )

    def kind_of(self, upload: Upload) -> str | None:
        """Wait until an upload is reported; return the kind of its failure."""
        wait_until(lambda: upload.file_id in self.ended)
        failure = self.ended[upload.file_id]
        return failure.kind if failure is not None else None


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_upload_that_hangs_is_given_up_and_holds_up_nobody(world: World) -> None:
    """Its put is told to try again, the next one goes on another thread, and a late end is nobody's business."""
    world.store.trouble = hangs = Hangs("put", words="first")
    with world.uploads(timeout_s=0.2) as uploads:
        first, second = world.upload("first"), world.upload("second")
        uploads.submit(first)
        uploads.submit(second)

        assert world.kind_of(first) == "storage_unavailable"
        assert world.kind_of(second) is None
        assert world.room.used_bytes == 0
        hangs.let_go()
        wait_until((world.root / "first").exists)  # it lands late
        third = world.upload("third")
        uploads.submit(third)
        assert world.kind_of(third) is None


def test_a_store_that_hangs_for_ever_ends_every_wait(world: World) -> None:
    """Also of uploads that never began, when there are as many stuck threads as there may be; none is added then."""
    world.store.trouble = hangs = Hangs("put")
    before = threading.active_count()
    with world.uploads(threads=2, timeout_s=0.1) as uploads:
        every = [world.upload(str(number)) for number in range(30)]
        for upload in every:
            uploads.submit(upload)

        assert {world.kind_of(upload) for upload in every} == {"storage_unavailable"}
        assert world.room.used_bytes == uploads.pending == 0
        assert threading.active_count() - before <= 2 * (STUCK_FOR_EACH + 1) + 1
        hangs.let_go()
        after = world.upload("after")
        uploads.submit(after)
        assert world.kind_of(after) is None
    wait_until(lambda: threading.active_count() <= before)


def test_a_failure_is_reported_as_it_is(world: World) -> None:
    """A store's own error reaches the put; a defect becomes ``internal`` and names no file."""

    def fail(call: str, path: str, size: int) -> None:
        if path == "away":
            raise TimestoreError("storage_unavailable", "away")
        raise ValueError(f"secret {path}")

    world.store.trouble = fail
    with world.uploads() as uploads:
        away, broken = world.upload("away"), world.upload("broken")
        uploads.submit(away)
        uploads.submit(broken)
        assert world.kind_of(away) == "storage_unavailable"
        assert world.kind_of(broken) == "internal"
    assert "secret" not in str(world.ended[broken.file_id])


def test_what_never_began_is_told_apart(world: World) -> None:
    """Of a put that has failed, only what no thread has begun can never land; its room is free at once."""
    world.store.trouble = hangs = Hangs("put", words="begun")
    mine = object()
    with world.uploads() as uploads:
        begun, waiting = world.upload("begun", owner=mine), world.upload("waiting", owner=mine)
        other = world.upload("other")
        for upload in (begun, waiting, other):
            uploads.submit(upload)
        assert hangs.begun.wait(30)

        assert uploads.cancel(mine) == {waiting.file_id}
        assert world.room.used_bytes == 2 * SIZE
        hangs.let_go()
        assert world.kind_of(other) is None
        assert world.kind_of(begun) is None
    assert waiting.file_id not in world.ended
    assert not (world.root / "waiting").exists()


def test_a_large_put_does_not_hold_up_a_small_one(world: World) -> None:
    """Puts take turns: who has one file to upload does not wait for all of who came first."""
    world.store.trouble = hangs = Hangs("put", words="first")
    large, small = object(), object()
    with world.uploads() as uploads:
        names = ("first", "second", "third")
        first, second, third = (world.upload(name, owner=large) for name in names)
        only = world.upload("only", owner=small)
        uploads.submit(first)
        assert hangs.begun.wait(30)
        for upload in (second, third, only):
            uploads.submit(upload)
        hangs.let_go()
        assert world.kind_of(third) is None

    assert list(world.ended) == [upload.file_id for upload in (first, second, only, third)]


def test_closing_waits_for_no_upload(world: World) -> None:
    """At the end of a server everybody who waits is told so, also those who come afterwards."""
    world.store.trouble = hangs = Hangs("put")
    with world.uploads() as uploads:
        running, waiting, late = (world.upload(name) for name in ("running", "waiting", "late"))
        uploads.submit(running)
        uploads.submit(waiting)
        assert hangs.begun.wait(30)
    uploads.submit(late)

    assert {world.kind_of(upload) for upload in (running, waiting, late)} == {"shutting_down"}
    assert world.room.used_bytes == 0
    hangs.let_go()


def _waiter(room: StagingRoom, size: int, wanted: threading.Event) -> tuple[threading.Thread, list[Any]]:
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(room.take(size, is_wanted=wanted.is_set)))
    thread.start()
    return thread, got


def test_a_full_room_makes_writers_wait() -> None:
    """A file that does not fit waits for others to leave, or until it is not wanted any more; it never fails."""
    room = StagingRoom(limit_bytes=100)
    wanted = threading.Event()
    wanted.set()
    first = room.take(80, is_wanted=wanted.is_set)
    assert first is not None
    thread, got = _waiter(room, 30, wanted)
    thread.join(0.05)
    assert thread.is_alive()
    first.resize(70)  # the file turned out to be smaller
    thread.join(30)
    assert room.used_bytes == 100

    second, nothing = _waiter(room, 30, wanted)
    wanted.clear()
    second.join(30)
    assert nothing == [None]
    first.give_back()
    first.give_back()
    got[0].give_back()
    assert room.used_bytes == 0


def test_one_file_may_always_be_staged() -> None:
    """However small the room, and however full of spilled rows: so whatever is spilled can be written at last."""
    room = StagingRoom(limit_bytes=100)
    room.spilled(90)
    assert not room.may_spill()
    place = room.take(1_000, is_wanted=lambda: True)
    assert place is not None
    assert room.used_bytes == 1_090
    place.give_back()
    room.spilled(-90)
    assert room.may_spill()
