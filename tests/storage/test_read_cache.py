"""The cache of remote files: bounded, complete, fetched once, and never pulled away under a reader."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from storage import read_cache
from storage.local_files import FileToRead, LocalFile, MissingFileError
from storage.read_cache import AHEAD, ReadCache
from storage.targets import Targets
from tests.fixtures.remote_store import RemoteStore
from tests.fixtures.server import wait_until
from tests.fixtures.small_disk import on_small_disk
from timestore.errors import OverloadedError, RetryableError
from timestore_app.data_directory import DataDirectory

SIZE = 100_000
LIMIT = 5 * SIZE


@pytest.fixture(name="directory")
def _directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(name="cache")
def _cache(remote_store: RemoteStore, directory: Path) -> Iterator[ReadCache]:
    with ReadCache(targets=Targets(default=remote_store), directory=directory, limit_bytes=LIMIT) as cache:
        yield cache


@pytest.fixture(name="files")
def _files(remote_store: RemoteStore) -> list[FileToRead]:
    return [remote_store.fill(f"cpu/{number}.duckdb", _content(number)) for number in range(12)]


def _content(number: int, size: int = SIZE) -> bytes:
    return random.Random(number).randbytes(size)


def _is(local: LocalFile, number: int) -> bool:
    return local.path.read_bytes() == _content(number)


def _kept(directory: Path) -> int:
    return len(list(directory.iterdir()))


def _change_first(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def _use(cache: ReadCache, *files: FileToRead) -> None:
    with cache.use(files):
        pass


def test_a_file_is_fetched_once_however_many_want_it(
    cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead]
) -> None:
    """Ten readers of one file at once, and one afterwards, cost one fetch, and all read its bytes."""
    together = threading.Barrier(10)

    def read() -> bool:
        together.wait(timeout=30)
        with cache.use([files[0]]) as [local]:
            return _is(local, 0) and local.checksum() == files[0].checksum

    with ThreadPoolExecutor(10) as pool:
        assert all(each.result() for each in [pool.submit(read) for _ in range(10)])
    _use(cache, files[0])

    assert remote_store.fetched() == 1


def test_files_in_use_stay_and_the_limit_holds(
    cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead], directory: Path
) -> None:
    """Whatever eight readers want at once, alone, in pairs or one after the other: what one uses is there, whole, all
    the time, and the bytes on disk are never more than the limit.
    """
    sizes: list[int] = []

    def measure(path: str) -> None:
        found = 0
        for each in directory.iterdir():
            try:
                found += each.stat().st_size
            except FileNotFoundError:
                continue
        sizes.append(found)

    remote_store.on_open = measure

    def read(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(30):
            numbers = choose.sample(range(len(files)), choose.choice([1, 1, 2]))
            if choose.random() < 0.3:
                for number, local in cache.in_order(numbers, files.__getitem__):
                    assert _is(local, number)
                continue
            with cache.use([files[number] for number in numbers]) as copies:
                assert all(_is(local, number) for number, local in zip(numbers, copies, strict=True))

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(read, seed) for seed in range(8)]:
            each.result()

    assert len(sizes) > len(files)  # they did not all fit
    assert max(sizes) <= LIMIT


def test_what_was_used_longest_ago_goes_first(
    cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead], directory: Path
) -> None:
    """Room is made by removing what nobody uses and was used longest ago, and no more than is needed."""
    for file in files[:5]:
        _use(cache, file)
    _use(cache, files[0])
    _use(cache, files[5])
    remote_store.fetched()

    for file in (files[0], files[2], files[3], files[4], files[5]):
        _use(cache, file)
    assert remote_store.fetched() == 0
    assert _kept(directory) == 5
    _use(cache, files[1])
    assert remote_store.fetched() == 1


def test_damage_on_the_way_is_noticed(
    cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead], directory: Path
) -> None:
    """A file whose bytes arrive changed, short or long is fetched again; else nobody gets to see it."""
    spoilers: list[Callable[[bytes], bytes]] = [lambda all_: all_[:-1], lambda all_: all_ + b"x", _change_first]
    for number, spoiler in enumerate(spoilers):
        once = iter([spoiler])
        remote_store.spoil = lambda content, once=once: next(once, bytes)(content)
        with cache.use([files[number]]) as [local]:
            assert _is(local, number)

    remote_store.spoil = _change_first
    with pytest.raises(RetryableError, match="arrives damaged") as caught:
        _use(cache, files[5])
    assert caught.value.kind == "storage_unavailable"
    assert _kept(directory) == len(spoilers)


def test_a_failed_fetch_can_be_repeated(
    cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead], directory: Path
) -> None:
    """A store that fails gives ``storage_unavailable`` to all who wait, leaves nothing behind, and is asked again."""

    def fail(path: str) -> None:
        raise ConnectionResetError("a secret")

    remote_store.on_open = fail
    with pytest.raises(RetryableError, match=r"fetching the data file 0\.duckdb failed") as caught:
        _use(cache, files[0], files[1])
    assert caught.value.kind == "storage_unavailable"
    assert "secret" not in str(caught.value)
    wait_until(lambda: _kept(directory) == 0)  # the other file's fetch may still be failing

    remote_store.mend()
    with cache.use(files[:2]) as copies:
        assert _is(copies[1], 1)


def test_a_file_that_is_gone(cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead]) -> None:
    """A file that was purged is told apart from a storage that fails; a copy that is there is good still."""
    _use(cache, files[0])
    remote_store.delete(files[0].path)
    remote_store.delete(files[1].path)

    with cache.use([files[0]]) as [local]:
        assert _is(local, 0)
    with pytest.raises(MissingFileError):
        _use(cache, files[1])


def test_a_file_larger_than_the_limit(
    cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead], directory: Path
) -> None:
    """It is read when nobody else uses anything, and makes room for everything else again."""
    large = remote_store.fill("cpu/large.duckdb", _content(99, 2 * LIMIT))
    _use(cache, *files[:5])

    with cache.use([large]) as [local]:
        assert local.path.stat().st_size == 2 * LIMIT
        assert _kept(directory) == 1
    _use(cache, *files[:5])
    assert _kept(directory) == 5


def test_without_room_readers_wait_and_then_are_refused(
    cache: ReadCache, files: list[FileToRead], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not fit beside what others use gets room as soon as they end, or is ``overloaded`` after a while."""
    with ExitStack() as in_use, ThreadPoolExecutor(1) as pool:
        in_use.enter_context(cache.use(files[:4]))
        waiting = pool.submit(_use, cache, *files[4:6])
        _use(cache, files[6])  # fits
        assert not waiting.done()
        in_use.close()
        waiting.result(timeout=30)

        monkeypatch.setattr(read_cache, "ROOM_TIMEOUT_S", 0.05)
        with cache.use(files[:4]), pytest.raises(OverloadedError, match="raise read_cache"):
            _use(cache, *files[4:6])


def test_who_waits_may_end_reads_that_stand_still(
    remote_store: RemoteStore, files: list[FileToRead], directory: Path
) -> None:
    """A reader that takes nothing keeps nobody from room for ever: who can end it is told that somebody waits."""
    reading: Generator[tuple[int, LocalFile], None, None]

    def make_room() -> None:
        reading.close()

    with ReadCache(
        targets=Targets(default=remote_store), directory=directory, limit_bytes=LIMIT, make_room=make_room
    ) as cache:
        reading = cache.in_order(range(3), files.__getitem__)
        next(reading)
        _use(cache, *files[3:8])


def test_the_next_files_are_fetched_ahead(remote_store: RemoteStore, files: list[FileToRead], directory: Path) -> None:
    """While one file is read the next ones come, a few and no more; a reader that ends early lets go of them."""
    with ReadCache(targets=Targets(default=remote_store), directory=directory, limit_bytes=2 * AHEAD * SIZE) as cache:
        reading = cache.in_order(range(len(files)), files.__getitem__)
        number, local = next(reading)
        assert _is(local, number)
        wait_until(lambda: len(remote_store.opened) == AHEAD)
        next(reading)
        wait_until(lambda: len(remote_store.opened) == AHEAD + 1)
        reading.close()

        _use(cache, *files[12 - 2 * AHEAD :])  # all of the limit


def test_half_of_the_limit_is_left_to_others(cache: ReadCache, files: list[FileToRead]) -> None:
    """What is fetched ahead never takes the room that other readers need for the file they are at."""
    reading = cache.in_order(range(len(files)), files.__getitem__)
    next(reading)
    _use(cache, *files[5:8])  # three of five
    reading.close()


def test_a_copy_that_somebody_removed_is_fetched_again(
    cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead]
) -> None:
    """Who frees the disk by hand breaks nothing."""
    with cache.use([files[0]]) as [local]:
        local.path.unlink()
    with cache.use([files[0]]) as [local]:
        assert _is(local, 0)
    assert remote_store.fetched() == 2


def test_a_closed_cache_fetches_nothing(remote_store: RemoteStore, files: list[FileToRead], directory: Path) -> None:
    """When the server stops, fetches end at their next step, and who waits hears so."""
    cache = ReadCache(targets=Targets(default=remote_store), directory=directory, limit_bytes=LIMIT)
    cache.open()
    remote_store.on_open = lambda _: cache.close()
    for file in files[:2]:  # in the middle, and afterwards
        with pytest.raises(RetryableError, match="stopping"):
            _use(cache, file)
    assert _kept(directory) == 0


_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from storage.read_cache import ReadCache
from storage.targets import Targets
from tests.fixtures.remote_store import RemoteStore
from timestore.errors import TimestoreError

store = RemoteStore(root=Path(sys.argv[1]))
files = [store.fill(f"{n}.duckdb", bytes([n]) * 300_000) for n in range(4)]
with ReadCache(targets=Targets(default=store), directory=Path(sys.argv[2]), limit_bytes=10 << 20) as cache:
    for file in (*files, files[3]):
        try:
            with cache.use([file]) as [local]:
                print(local.path.read_bytes() == bytes([int(file.path[0])]) * 300_000)
        except TimestoreError as failure:
            print(failure.kind)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """A disk with less room than the limit says ends a fetch as ``disk_full``; the next one finds room."""
    within = on_small_disk(tmp_path / "small", "1m")
    command = [*within, sys.executable, "-c", _ON_A_FULL_DISK, str(tmp_path / "data"), str(tmp_path / "small")]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, env=os.environ)

    assert done.stdout.decode().split() == ["True", "True", "True", "disk_full", "True"]


def test_a_restart_begins_with_an_empty_cache(
    cache: ReadCache, remote_store: RemoteStore, files: list[FileToRead], tmp_path: Path
) -> None:
    """Copies and parts of copies of an earlier run are removed at the start; a foreign file is left alone."""
    with DataDirectory(path=tmp_path / "server") as owned:
        with ReadCache(targets=Targets(default=remote_store), directory=owned.cache, limit_bytes=LIMIT) as other:
            _use(other, *files[:2])
        copy = next(owned.cache.iterdir())
        copy.rename(copy.with_name(f"{copy.name}.00000000-0000-4000-8000-000000000000.partial"))
        (owned.cache / "mine.duckdb").touch()
    with DataDirectory(path=tmp_path / "server") as owned:
        assert [path.name for path in owned.cache.iterdir()] == ["mine.duckdb"]
