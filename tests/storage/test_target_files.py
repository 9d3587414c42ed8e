"""Files of several targets on this machine: in place where they are here, copies where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.checksums import checksum_of
from storage.local import LocalStore
from storage.local_files import FileToRead, MissingFileError
from storage.read_cache import ReadCache
from storage.store import Store
from storage.target_files import TargetFiles
from storage.targets import Targets
from tests.fixtures.remote_store import RemoteStore
from timestore.errors import RetryableError, TimestoreError, error


class _Named(Targets):
    """Targets whose stores a test has opened."""

    def __init__(self, **stores: Store) -> None:
        super().__init__(default=stores["default"])
        self._stores = dict(stores)


@pytest.fixture(name="here")
def _here(tmp_path: Path) -> LocalStore:
    return LocalStore(root=tmp_path / "here")


@pytest.fixture(name="away")
def _away(tmp_path: Path) -> RemoteStore:
    return RemoteStore(root=tmp_path / "away")


@pytest.fixture(name="cache")
def _cache(here: LocalStore, away: RemoteStore, tmp_path: Path) -> Iterator[ReadCache]:
    """A cache over one target here, and two elsewhere of which the URLs are the same: only their endpoints differ."""
    targets = _Named(default=here, away=away, other=RemoteStore(root=tmp_path / "other"))
    with ReadCache(targets=targets, directory=tmp_path / "cache", limit_bytes=100) as cache:
        yield cache


@pytest.fixture(name="files")
def _files(cache: ReadCache) -> TargetFiles:
    return TargetFiles(targets=cache._targets, cache=cache)


def _put(files: TargetFiles, storage: str, path: str, content: bytes) -> FileToRead:
    files._targets.of(storage).put_bytes(content, path)
    return FileToRead(storage=storage, path=path, bytes=len(content))


def test_each_is_where_its_target_says(files: TargetFiles, here: LocalStore, tmp_path: Path) -> None:
    """Files of several targets in use at once come in the order asked for: in their places, or as copies."""
    wanted = [_put(files, *each) for each in (("away", "b", b"bb"), ("default", "a", b"a"), ("other", "b", b"BBB"))]
    with files.use(wanted) as local:
        assert [each.path.read_bytes() for each in local] == [b"bb", b"a", b"BBB"]
        assert [each.path for each in local] == [files.place(file) for file in wanted]
        assert [each.path.parent.name for each in local] == ["cache", "here", "cache"]
        for file, each in zip(wanted, local, strict=True):
            with files._targets.of(file.storage).open(file.path) as stream:
                assert each.checksum() == checksum_of(stream)
    assert files.to_fetch(wanted) == [wanted[0], wanted[2]]
    assert files.limit_bytes == 100


def test_in_order_over_targets(files: TargetFiles) -> None:
    """A read that goes from one target to another gets every file in its turn; nothing stays in use afterwards."""
    wanted = [
        _put(files, storage, f"{number}", bytes([number]) * 30)
        for number, storage in enumerate(("default", "away", "away", "default", "other", "away", "away"))
    ]
    read = [(file, local.path.read_bytes()) for file, local in files.in_order(wanted, lambda file: file)]
    assert read == [(file, bytes([number]) * 30) for number, file in enumerate(wanted)]
    with files.use([replace(wanted[1], bytes=30), *wanted[4:6]]):  # 90 of 100 bytes: there is room for them
        pass


def test_what_is_missing(files: TargetFiles, away: RemoteStore) -> None:
    """A file that is not there is told as such in every target; a target that fails is named."""
    lost = FileToRead(storage="default", path="lost", bytes=1)
    with files.use([lost]) as [local], pytest.raises(MissingFileError):
        local.checksum()
    with pytest.raises(MissingFileError), files.use([replace(lost, storage="away")]):
        pass
    with pytest.raises(TimestoreError) as caught, files.use([replace(lost, storage="nowhere")]):
        pass
    assert caught.value.kind == "storage_not_found"

    def fail(_: str) -> None:
        raise error("storage_unavailable", "it does not answer")

    away.on_open = fail
    with pytest.raises(RetryableError, match="the storage 'away' cannot be used by this server: it does not answer"):
        files.use([_put(files, "away", "a", b"a")]).__enter__()
