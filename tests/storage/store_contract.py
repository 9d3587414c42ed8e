"""What every store promises. A backend's test class inherits this and gives the fixture ``store``."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from storage.store import Store, StoredObject
from timestore.errors import InternalError, RetryableError

MakeSource = Callable[[bytes], Path]


def stored(store: Store, path: str) -> bytes:
    """Return what an object holds."""
    with store.open(path) as file:
        return file.read()


def run_together(threads: int, rounds: int, step: Callable[[int, int], bool]) -> list[list[bool]]:
    """Run ``step(thread, round)`` on some threads, all in the same round at once; return what each thread saw."""
    together = Barrier(threads)

    def run(thread: int) -> list[bool]:
        seen = []
        try:
            for number in range(rounds):
                together.wait(timeout=30)
                seen.append(step(thread, number))
        except BaseException:
            together.abort()
            raise
        return seen

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


class StoreContract:
    """The promises of ``storage.store.Store``."""

    rounds = 25  # of threads that race; fewer where each takes long

    @pytest.fixture
    def make_source(self, tmp_path: Path) -> MakeSource:
        """Return a function that makes finished local files to be published."""
        directory = tmp_path / "staging"
        directory.mkdir()

        def make(content: bytes) -> Path:
            path = directory / f"{len(list(directory.iterdir()))}.duckdb"
            path.write_bytes(content)
            return path

        return make

    def test_a_put_publishes_the_whole_file_and_consumes_it(self, store: Store, make_source: MakeSource) -> None:
        """After a put the object is there, whole, under directories nobody made before, and the source is gone."""
        content = bytes(range(256)) * 10_000
        source = make_source(content)
        store.put(source, "cpu/region=eu/20260101T000000Z/a.duckdb")
        assert stored(store, "cpu/region=eu/20260101T000000Z/a.duckdb") == content
        assert not source.exists()
        assert [found.path for found in store.list()] == ["cpu/region=eu/20260101T000000Z/a.duckdb"]

    def test_a_put_never_overwrites(self, store: Store, make_source: MakeSource) -> None:
        """Another object in the way is a defect that is reported, and it stays as it is, as does the source."""
        store.put(make_source(b"first"), "cpu/a.duckdb")
        second = make_source(b"other")
        with pytest.raises(InternalError) as caught:
            store.put(second, "cpu/a.duckdb")
        assert caught.value.kind == "internal"
        assert stored(store, "cpu/a.duckdb") == b"first"
        assert second.read_bytes() == b"other"

    def test_a_put_without_a_source_publishes_nothing(self, store: Store, tmp_path: Path) -> None:
        """A put that fails is an error of the kind that is repeated, and nothing appears."""
        with pytest.raises(RetryableError) as caught:
            store.put(tmp_path / "missing.duckdb", "cpu/a.duckdb")
        assert caught.value.kind == "storage_unavailable"
        assert store.stat("cpu/a.duckdb") is None
        assert list(store.list()) == []

    def test_many_puts_into_one_new_directory(self, store: Store, make_source: MakeSource) -> None:
        """Threads that put different objects into a directory that none of them has made do not disturb each other."""
        threads, rounds = 2, 10
        together = Barrier(threads)
        sources = {
            f"cpu/{r}/{t}.duckdb": make_source(f"{r}-{t}".encode()) for r in range(rounds) for t in range(threads)
        }

        def put_all(thread: int) -> None:
            for number in range(rounds):
                path = f"cpu/{number}/{thread}.duckdb"
                together.wait(timeout=30)
                store.put(sources[path], path)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(put_all, range(threads)))
        assert {found.path for found in store.list()} == set(sources)
        assert stored(store, "cpu/7/1.duckdb") == b"7-1"

    def test_put_bytes_tells_who_was_first(self, store: Store) -> None:
        """The first to create an object is told so; a later one is told otherwise, and changes nothing."""
        assert store.put_bytes(b"first", "marker.json")
        assert not store.put_bytes(b"other", "marker.json")
        assert stored(store, "marker.json") == b"first"

    def test_put_bytes_has_one_winner(self, store: Store) -> None:
        """Of threads that create one object at once exactly one is first, and the object is whole."""

        def create(thread: int, number: int) -> bool:
            return store.put_bytes(bytes([thread]) * 1_000, f"markers/{number}.json")

        wins = run_together(8, self.rounds, create)
        for number, won in enumerate(zip(*wins, strict=True)):
            assert won.count(True) == 1
            assert stored(store, f"markers/{number}.json") == bytes([won.index(True)]) * 1_000

    def test_opening_what_is_not_there(self, store: Store) -> None:
        """There is no such object: FileNotFoundError."""
        with pytest.raises(FileNotFoundError):
            store.open("cpu/none.duckdb")

    def test_stat_knows_the_size(self, store: Store, make_source: MakeSource) -> None:
        """An object is found with its size; a missing one is None."""
        store.put(make_source(b"12345"), "cpu/a.duckdb")
        assert store.stat("cpu/a.duckdb") == StoredObject(path="cpu/a.duckdb", bytes=5)
        assert store.stat("cpu/b.duckdb") is None
        assert store.stat("none/b.duckdb") is None

    def test_deleting_is_idempotent(self, store: Store, make_source: MakeSource) -> None:
        """A deleted object is gone, and deleting it again, or what never was, is no error."""
        store.put(make_source(b"x"), "cpu/a.duckdb")
        store.delete("cpu/a.duckdb")
        store.delete("cpu/a.duckdb")
        store.delete("none/at/all.duckdb")
        assert store.stat("cpu/a.duckdb") is None
        assert list(store.list()) == []

    def test_list_yields_what_begins_with_the_prefix(self, store: Store, make_source: MakeSource) -> None:
        """A prefix is the beginning of a path, whether or not it ends at a slash."""
        for path in ("cpu/k=1/a", "cpu/k=1/b", "cpu/k=10/a", "cpu2/a", "mem/a"):
            store.put(make_source(path.encode()), path)
        listed = {found.path: found.bytes for found in store.list()}
        assert listed == {path: len(path) for path in ("cpu/k=1/a", "cpu/k=1/b", "cpu/k=10/a", "cpu2/a", "mem/a")}
        assert {found.path for found in store.list("cpu/k=1/")} == {"cpu/k=1/a", "cpu/k=1/b"}
        assert {found.path for found in store.list("cpu/k=1")} == {"cpu/k=1/a", "cpu/k=1/b", "cpu/k=10/a"}
        assert {found.path for found in store.list("cpu")} == {"cpu/k=1/a", "cpu/k=1/b", "cpu/k=10/a", "cpu2/a"}
        assert list(store.list("none")) == []

    def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        """Before the first object there is none."""
        assert list(store.list()) == []

    def test_objects_may_be_deleted_while_they_are_listed(self, store: Store, make_source: MakeSource) -> None:
        """A sweeper elsewhere does not break a listing: what is deleted meanwhile may be left out."""
        for name in "abcd":
            store.put(make_source(b"x"), f"cpu/{name}")
        listing = store.list()
        first = next(listing).path
        for name in "abcd":
            store.delete(f"cpu/{name}")
        assert {found.path for found in listing} <= {f"cpu/{name}" for name in "abcd"} - {first}

    def test_odd_names_are_names(self, store: Store, make_source: MakeSource) -> None:
        """Percent signs, tildes and equals signs of encoded keys mean nothing to a store."""
        path = "cpu/k=%2E%2E%2F%C3%A4~/20260101T000000Z/a.duckdb"
        store.put(make_source(b"x"), path)
        assert [found.path for found in store.list("cpu/k=%2E")] == [path]
        assert stored(store, path) == b"x"
