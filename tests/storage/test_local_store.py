"""The store in a directory: the contract, and what only a file system can do."""

import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.local import LocalStore
from storage.opening import open_store
from storage.store import Store
from tests.storage.store_contract import MakeSource, StoreContract, stored
from timestore.errors import InternalError, RetryableError, TimestoreError

SHARED_MEMORY = Path("/dev/shm")  # another file system than the temporary directory's


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def _files_limited_to(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestLocalStore(StoreContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """Give a root that nobody has made yet."""
        return tmp_path / "root"

    @pytest.fixture
    def store(self, root: Path) -> Store:
        """Give the store under test."""
        return LocalStore(root=root)

    @pytest.fixture
    def far_source(self, tmp_path: Path) -> Iterator[Path]:
        """Give a source on another file system than the root's."""
        if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no second file system to publish from")
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory:
            source = Path(directory, "far.duckdb")
            source.write_bytes(b"far" * 100_000)
            yield source

    def test_the_same_file_again_is_success(self, store: Store, root: Path, make_source: MakeSource) -> None:
        """A put that died between ``link`` and ``unlink`` is finished by the next: the same inode is our own."""
        source = make_source(b"once")
        (root / "cpu").mkdir(parents=True)
        os.link(source, root / "cpu/a.duckdb")
        store.put(source, "cpu/a.duckdb")
        assert stored(store, "cpu/a.duckdb") == b"once"
        assert not source.exists()

    @pytest.mark.parametrize("leaves_a_directory", [False, True], ids=["gone", "empty"])
    def test_another_root_in_its_place_takes_nothing(
        self, store: Store, root: Path, make_source: MakeSource, leaves_a_directory: bool
    ) -> None:
        """Where the root was moved or unmounted, nothing is published or read, until it is back."""
        store.put(make_source(b"before"), "cpu/a.duckdb")
        away = root.with_name("away")
        root.rename(away)
        if leaves_a_directory:
            root.mkdir()

        source = make_source(b"meanwhile")
        for attempt in (lambda: store.put(source, "cpu/b.duckdb"), lambda: store.open("cpu/a.duckdb")):
            with pytest.raises(RetryableError, match="mount"):
                attempt()
        assert source.exists()
        assert not root.exists() or list(root.iterdir()) == []

        if leaves_a_directory:
            root.rmdir()
        away.rename(root)
        store.put(source, "cpu/b.duckdb")
        assert stored(store, "cpu/b.duckdb") == b"meanwhile"

    def test_equal_content_is_not_the_same_file(self, store: Store, make_source: MakeSource) -> None:
        """File ids are unique, so another file at our path is a defect, even one with equal bytes."""
        store.put(make_source(b"equal"), "cpu/a.duckdb")
        with pytest.raises(InternalError):
            store.put(make_source(b"equal"), "cpu/a.duckdb")

    def test_published_files_are_read_only(self, store: Store, root: Path, make_source: MakeSource) -> None:
        """A published file never changes: its mode is 0444."""
        store.put(make_source(b"x"), "cpu/a.duckdb")
        assert _mode(root / "cpu/a.duckdb") == 0o444

    def test_published_bytes_are_read_only(self, store: Store, root: Path) -> None:
        """The marker is a published file too."""
        store.put_bytes(b"x", "timestore.json")
        assert _mode(root / "timestore.json") == 0o444

    def test_a_put_from_another_file_system(self, store: Store, root: Path, far_source: Path) -> None:
        """Where ``link`` cannot reach, the file is copied beside its place first, and nothing else is left."""
        store.put(far_source, "cpu/a.duckdb")
        assert stored(store, "cpu/a.duckdb") == b"far" * 100_000
        assert _mode(root / "cpu/a.duckdb") == 0o444
        assert not far_source.exists()
        assert [found.path for found in store.list()] == ["cpu/a.duckdb"]

    def test_a_put_from_another_file_system_never_overwrites(
        self, store: Store, make_source: MakeSource, far_source: Path
    ) -> None:
        """Across file systems too, what is there stays, and the source stays."""
        store.put(make_source(b"first"), "cpu/a.duckdb")
        with pytest.raises(InternalError):
            store.put(far_source, "cpu/a.duckdb")
        assert stored(store, "cpu/a.duckdb") == b"first"
        assert far_source.exists()
        assert [found.path for found in store.list()] == ["cpu/a.duckdb"]

    def test_a_copy_that_fails_half_way_leaves_nothing(self, store: Store, far_source: Path) -> None:
        """A disk that fills up during the copy gets its space back."""
        with _files_limited_to(10_000), pytest.raises(RetryableError):
            store.put(far_source, "cpu/a.duckdb")
        assert list(store.list()) == []
        assert far_source.exists()

    def test_bytes_that_fail_half_way_leave_nothing(self, store: Store) -> None:
        """A small object that cannot be written whole does not appear, and leaves nothing beside its place."""
        with _files_limited_to(1_000), pytest.raises(RetryableError):
            store.put_bytes(b"x" * 10_000, "cpu/marker.json")
        assert list(store.list()) == []

    def test_a_root_that_is_no_directory(self, tmp_path: Path, make_source: MakeSource) -> None:
        """A broken root is ``storage_unavailable``, and the source stays for the next attempt."""
        (tmp_path / "file").write_bytes(b"")
        store, source = LocalStore(root=tmp_path / "file"), make_source(b"x")
        for call in (lambda: store.put(source, "cpu/a"), lambda: store.put_bytes(b"x", "cpu/a")):
            with pytest.raises(RetryableError) as caught:
                call()
            assert caught.value.kind == "storage_unavailable"
        assert source.exists()

    def test_a_listing_that_cannot_be_complete_fails(self, tmp_path: Path) -> None:
        """What cannot be read is not "nothing": whoever compares storage with the catalog must not be told so."""
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(TimestoreError) as caught:
            list(LocalStore(root=tmp_path / "file").list())
        assert caught.value.kind == "storage_unavailable"

    def test_directories_come_back_after_they_were_removed(
        self, store: Store, root: Path, make_source: MakeSource
    ) -> None:
        """Somebody who tidies up empty directories does not break the next put."""
        store.put(make_source(b"x"), "cpu/w/a")
        store.delete("cpu/w/a")
        (root / "cpu/w").rmdir()
        store.put(make_source(b"y"), "cpu/w/b")
        assert stored(store, "cpu/w/b") == b"y"

    def test_objects_have_a_place_and_a_url(self, store: Store, root: Path) -> None:
        """People and other programs find an object by its URL or its path on this machine."""
        assert store.local_path("cpu/a") == root / "cpu/a"
        assert store.url("cpu/a") == f"file://{root}/cpu/a"


def test_a_url_or_a_directory_names_a_local_store(tmp_path: Path) -> None:
    """A plain directory and its ``file://`` URL are the same store."""
    for spelling in (str(tmp_path), f"file://{tmp_path}"):
        store = open_store(spelling)
        assert store.local_path("a") == tmp_path / "a"
