"""Every kind of object store, on a real server: the contract."""

from __future__ import annotations

import pytest

from storage.objects import ObjectStore
from tests.fixtures.object_stores import ObjectServer, TestBucket, s3_client
from tests.storage.object_store_contract import ObjectStoreContract, check_one_of_eight
from tests.storage.store_contract import MakeSource


class _S3(ObjectStoreContract):
    def check_no_upload(self, bucket: TestBucket) -> None:
        answer = s3_client(bucket.server.port).list_multipart_uploads(Bucket=bucket.name)
        assert answer.get("Uploads", []) == []


class TestSeaweedFS(_S3):
    rounds = 1  # its lock makes those who lose wait for a second each

    @pytest.fixture
    def server(self, seaweed: ObjectServer) -> ObjectServer:
        """Give SeaweedFS."""
        return seaweed


class TestMoto(_S3):
    @pytest.fixture
    def server(self, moto: ObjectServer) -> ObjectServer:
        """Give moto."""
        return moto


@pytest.mark.toolchain
class TestAzurite(ObjectStoreContract):
    @pytest.fixture
    def server(self, azurite: ObjectServer) -> ObjectServer:
        """Give Azurite."""
        return azurite


class TestFakeGCS(ObjectStoreContract):
    @pytest.fixture
    def server(self, fake_gcs: ObjectServer) -> ObjectServer:
        """Give fake-gcs-server."""
        return fake_gcs

    @pytest.mark.parametrize("size", [1_000])
    def test_eight_put_different_files_at_one_path(
        self, store: ObjectStore, make_source: MakeSource, size: int
    ) -> None:
        """Exactly one is published. (Only small files: the emulator forgets the condition at the end of a session.)"""
        check_one_of_eight(store, make_source, size)
