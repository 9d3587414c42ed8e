"""What every object store promises beside the contract of all stores. Each test has a bucket on a real server."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from storage.horizon import read_horizon, write_horizon
from storage.marker import MARKER_PATH, claim_root
from storage.objects import PROBE_PATH, ObjectStore
from storage.parts import PART_BYTES
from storage.paths import MAX_PATH_BYTES
from storage.store import Store, StoredObject
from tests.fixtures.object_stores import ObjectServer, TestBucket
from tests.fixtures.proxy import TcpProxy
from tests.storage.store_contract import MakeSource, StoreContract, run_together, stored
from timestore.errors import InternalError, RetryableError, TimestoreError

BehindProxy = Callable[[TestBucket], tuple[TestBucket, TcpProxy]]
PATH = "cpu/region=eu/20260101T000000Z/a.duckdb"
BLOCK = os.urandom(1 << 20)


def big(size: int) -> bytes:
    """Return content that takes several parts."""
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


def check_one_of_eight(store: ObjectStore, make_source: MakeSource, size: int) -> None:
    """Let eight threads put files that differ in their last byte at one path, and check that one of them did."""
    sources = [make_source(big(size - 1) + bytes([number])) for number in range(8)]

    def put(thread: int, _: int) -> bool:
        try:
            store.put(sources[thread], PATH)
        except InternalError:
            return False
        return True

    won = [wins[0] for wins in run_together(8, 1, put)]
    assert won.count(True) == 1
    assert [source.exists() for source in sources] == [not each for each in won]
    assert stored(store, PATH)[-1] == won.index(True)


class ObjectStoreContract(StoreContract):
    """The promises of ``storage.objects.ObjectStore`` over one kind of bucket."""

    @pytest.fixture
    def server(self) -> ObjectServer:
        """Give the server; each class says which."""
        raise NotImplementedError

    @pytest.fixture
    def bucket(self, server: ObjectServer, make_bucket: Callable[[ObjectServer], TestBucket]) -> TestBucket:
        """Give an empty bucket, with its credentials in the environment."""
        return make_bucket(server)

    @pytest.fixture
    def store(self, bucket: TestBucket) -> Store:
        """Give the store under test."""
        return bucket.store()

    def test_a_big_file_in_parts(self, store: ObjectStore, make_source: MakeSource) -> None:
        """A file of several parts arrives byte for byte, and is read by ranges from any place."""
        content = big(40 << 20) + b"the end"
        store.put(make_source(content), PATH)
        assert store.stat(PATH) == StoredObject(path=PATH, bytes=len(content))
        assert stored(store, PATH) == content
        with store.open(PATH) as file:
            file.seek(-len(b"the end"), os.SEEK_END)
            assert file.read() == b"the end"
            file.seek((9 << 20) + 1)
            assert file.read(1_000) == content[(9 << 20) + 1 :][:1_000]

    @pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1], ids=["empty", "byte", "part", "more"])
    def test_files_of_any_size(self, store: ObjectStore, make_source: MakeSource, size: int) -> None:
        """One part or two, or nothing at all: what was put is there."""
        store.put(make_source(big(size)), PATH)
        assert stored(store, PATH) == big(size)

    @pytest.mark.parametrize("size", [1_000, PART_BYTES + 1], ids=["whole", "parts"])
    def test_our_own_earlier_attempt_is_success(self, store: ObjectStore, make_source: MakeSource, size: int) -> None:
        """What is there with our size and checksum is what we sent before: the put is done, and its source consumed."""
        store.put(make_source(big(size)), PATH)
        again = make_source(big(size))
        store.put(again, PATH)
        assert not again.exists()
        assert stored(store, PATH) == big(size)

    def test_big_files_never_overwrite(self, store: ObjectStore, make_source: MakeSource) -> None:
        """An upload in parts creates too: another object there stays as it is, and is reported."""
        store.put(make_source(b"first"), PATH)
        source = make_source(big(PART_BYTES + 1))
        with pytest.raises(InternalError, match="another object is already there"):
            store.put(source, PATH)
        assert stored(store, PATH) == b"first"
        assert source.exists()

    @pytest.mark.parametrize("size", [1_000, PART_BYTES + 1], ids=["whole", "parts"])
    def test_eight_put_different_files_at_one_path(
        self, store: ObjectStore, make_source: MakeSource, size: int
    ) -> None:
        """Exactly one of them is published; the others learn of it, and keep their files."""
        check_one_of_eight(store, make_source, size)

    @pytest.mark.parametrize("size", [1_000, PART_BYTES + 1], ids=["whole", "parts"])
    def test_a_store_that_answers_only_the_second_time(
        self, bucket: TestBucket, behind_proxy: BehindProxy, make_source: MakeSource, size: int
    ) -> None:
        """A request that was done and whose answer was lost is sent again, and meets its own success."""
        through, proxy = behind_proxy(bucket)
        store = through.store()
        store.put_bytes(b"", "first")  # connected, and known to create conditionally
        proxy.cut_once(bucket.server.upload_request, answer=True)
        store.put(make_source(big(size)), PATH)
        assert proxy.cuts == 1
        assert stored(store, PATH) == big(size)

    def test_a_creator_that_hears_only_the_second_time(self, bucket: TestBucket, behind_proxy: BehindProxy) -> None:
        """Who created an object knows it, also if the answer was lost; with equal content nobody else believes it."""
        through, proxy = behind_proxy(bucket)
        store = through.store()
        store.put_bytes(b"", "first")
        proxy.cut_once(bucket.server.upload_request, answer=True)
        assert store.put_bytes(b"same", "marker.json")
        assert proxy.cuts == 1
        assert not store.put_bytes(b"same", "marker.json")

    def test_a_connection_cut_in_the_middle_of_an_upload(
        self, bucket: TestBucket, behind_proxy: BehindProxy, make_source: MakeSource
    ) -> None:
        """A part that is lost on its way is sent again; the file arrives whole."""
        through, proxy = behind_proxy(bucket)
        store = through.store()
        proxy.cut_once(bucket.server.part_request, answer=False)
        content = big(2 * PART_BYTES)
        store.put(make_source(content), PATH)
        assert stored(store, PATH) == content

    def test_a_store_that_goes_away_in_the_middle_of_an_upload(
        self,
        bucket: TestBucket,
        behind_proxy: BehindProxy,
        make_source: MakeSource,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The put fails so that it can be repeated, nothing is visible, and a sweep leaves nothing of the upload."""
        monkeypatch.setattr("storage.objects.LEAST_BYTES_PER_S", 1 << 40)
        direct = bucket.store()
        direct.put_bytes(b"", "warm")  # some make room for a bucket only now
        through, proxy = behind_proxy(bucket)
        store = through.store()
        store.put_bytes(b"", "first")
        monkeypatch.setattr(store, "_deadline_s", 2.0)  # not before: a busy machine takes its time for the first answer
        source = make_source(big(PART_BYTES + 1))
        proxy.go_down_at(bucket.server.part_request)
        with pytest.raises(RetryableError) as caught:
            store.put(source, PATH)
        assert caught.value.kind == "storage_unavailable"
        assert direct.stat(PATH) is None
        assert source.exists()

        direct.abort_uploads(timedelta(0))
        self.check_no_upload(bucket)
        direct.put(source, PATH)
        assert stored(direct, PATH) == big(PART_BYTES + 1)

    def check_no_upload(self, bucket: TestBucket) -> None:
        """Check from outside that no upload is unfinished; most services show none."""

    def test_a_silent_store_does_not_hold_a_put(
        self, bucket: TestBucket, behind_proxy: BehindProxy, make_source: MakeSource
    ) -> None:
        """A store that takes connections and never answers fails the put at its deadline."""
        bucket.store().put_bytes(b"", "warm")
        through, proxy = behind_proxy(bucket)
        store = through.store(deadline_s=5.0)
        store.put_bytes(b"", "first")
        proxy.fall_silent()
        with pytest.raises(RetryableError) as caught:
            store.put(make_source(b"x"), PATH)
        assert caught.value.kind == "storage_unavailable"
        proxy.talk_again()

    def test_a_listing_in_pages(self, bucket: TestBucket, store: ObjectStore) -> None:
        """A listing is whole however many answers it takes."""
        paths = [f"cpu/{number:02}" for number in range(7)]
        for path in paths:
            store.put_bytes(path.encode(), path)
        for page_size in (1, 3, 7):
            paged = bucket.store(page_size=page_size)
            assert sorted(found.path for found in paged.list()) == paths
            assert sorted(found.path for found in paged.list("cpu/0")) == paths

    def test_long_paths(self, store: ObjectStore, make_source: MakeSource) -> None:
        """Paths may be as long as the longest that Timestore makes, with all that it percent-encodes."""
        parts = [f"{'k' * 128}=" + "%C3%A4" * 10] * 4
        path = "/".join(["d" * 100, *parts])[: MAX_PATH_BYTES - 2] + "/a"
        store.put(make_source(b"long"), path)
        assert [found.path for found in store.list()] == [path]
        assert stored(store, path) == b"long"
        store.delete(path)
        assert list(store.list()) == []

    def test_another_prefix_is_another_store(self, bucket: TestBucket, store: ObjectStore) -> None:
        """Stores in one bucket do not see each other, also if one's name begins like the other's."""
        other = TestBucket(server=bucket.server, name=f"{bucket.name}/some/prefix2").store()
        store.put_bytes(b"ours", "a")
        other.put_bytes(b"theirs", "b")
        assert [found.path for found in store.list()] == ["a"]
        assert store.stat("b") is None

    def test_credentials_that_are_wrong(self, bucket: TestBucket, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wrong credentials are named as such, at once, and never repeated."""
        if not bucket.server.wrong_environment:
            return  # it lets everybody in
        for name, value in bucket.server.wrong_environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(RetryableError, match="credentials") as caught:
            bucket.store().put_bytes(b"x", "a")
        assert caught.value.kind == "storage_unavailable"
        for spelled in (bucket.server.environment, bucket.server.wrong_environment):
            assert not any(value in str(caught.value) for value in spelled.values())

    def test_a_bucket_that_is_not_there(self, bucket: TestBucket, make_source: MakeSource) -> None:
        """A missing bucket is never "nothing there": every call says which one is missing."""
        missing = TestBucket(server=bucket.server, name="no-such-bucket-7c1")
        source = make_source(b"x")
        calls: list[Callable[[ObjectStore], object]] = [
            lambda store: store.put(source, PATH),
            lambda store: store.put_bytes(b"x", PATH),
            lambda store: store.open(PATH),
            lambda store: store.stat(PATH),
            lambda store: list(store.list()),
            lambda store: store.delete(PATH),
        ]
        for call in calls:
            with pytest.raises(RetryableError, match="'no-such-bucket-7c1'") as caught:
                call(missing.store())
            assert caught.value.kind == "storage_unavailable"
        assert source.exists()

    def test_one_catalog_wins_a_root(self, store: ObjectStore) -> None:
        """Of eight catalogs that claim an empty root at once, one gets it, and the others are fenced."""

        def claim(_: int, __: int) -> bool:
            try:
                claim_root(store, catalog_id=uuid4(), incarnation=uuid4(), settled=None)
            except TimestoreError as exc:
                assert exc.kind == "fenced"  # noqa: PT017  # on threads
                return False
            return True

        assert [wins[0] for wins in run_together(8, 1, claim)].count(True) == 1
        assert [found.path for found in store.list()] == [MARKER_PATH]

    def test_a_horizon_is_seen_at_once(self, bucket: TestBucket, store: ObjectStore) -> None:
        """Another server sees the newest horizon, for nothing caches what is listed."""
        other = bucket.store()
        for number in (1, 2, 5):
            write_horizon(store, number)
            assert read_horizon(other) == number

    def test_urls_name_the_bucket(self, bucket: TestBucket, store: ObjectStore) -> None:
        """Other programs find an object by its URL; it is on no path of this machine."""
        assert store.url("cpu/a") == f"{bucket.server.scheme}://{bucket.name}/some/prefix/cpu/a"
        assert store.local_path("cpu/a") is None

    def test_the_probe_is_no_object_of_ours(self, store: ObjectStore, tmp_path: Path) -> None:
        """What shows that a store creates conditionally is not listed."""
        store.put_bytes(b"x", "a")
        assert store.stat(PROBE_PATH) is not None
        assert [found.path for found in store.list()] == ["a"]
