"""What only S3 has: unfinished uploads that are swept, and how objects are stored."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from catalog.connections import Connections
from catalog.lifecycle import Lifecycle
from storage.parts import PART_BYTES
from storage.targets import Targets
from tests.fixtures.object_stores import ObjectServer, TestBucket, s3_client
from tests.storage.object_store_contract import PATH, big
from tests.storage.store_contract import MakeSource
from timestore.storage_target import DEFAULT_STORAGE
from writers.housekeeping import Housekeeping

MakeBucket = Callable[[ObjectServer], TestBucket]


@pytest.fixture(name="make_source")
def _make_source(tmp_path) -> MakeSource:
    def make(content: bytes):
        path = tmp_path / os.urandom(4).hex()
        path.write_bytes(content)
        return path

    return make


@pytest.fixture(name="bucket")
def _bucket(seaweed: ObjectServer, make_bucket: MakeBucket) -> TestBucket:
    return make_bucket(seaweed)


def _begin(bucket: TestBucket, key: str) -> None:
    """Leave what a server leaves that dies in the middle of an upload."""
    client = s3_client(bucket.server.port)
    upload = client.create_multipart_upload(Bucket=bucket.name, Key=key)
    client.upload_part(Bucket=bucket.name, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * (5 << 20))


def _unfinished(bucket: TestBucket) -> list[str]:
    answer: dict[str, Any] = s3_client(bucket.server.port).list_multipart_uploads(Bucket=bucket.name)
    return sorted(each["Key"] for each in answer.get("Uploads", []))


def test_deleting_an_object_ends_its_uploads(bucket: TestBucket) -> None:
    """When the file of a condemned intent is deleted, nothing is left of the upload that its server died in."""
    _begin(bucket, f"some/prefix/{PATH}")
    _begin(bucket, f"some/prefix/{PATH}2")
    bucket.store().delete(PATH)
    assert _unfinished(bucket) == [f"some/prefix/{PATH}2"]


def test_old_uploads_are_aborted(bucket: TestBucket) -> None:
    """Unfinished uploads under the root go once they are old enough; those of others never."""
    _begin(bucket, f"some/prefix/{PATH}")
    _begin(bucket, "some/prefix2/a")
    store = bucket.store()
    assert store.abort_uploads(timedelta(days=1)) == 0
    assert len(_unfinished(bucket)) == 2
    assert store.abort_uploads(timedelta(0)) == 1
    assert _unfinished(bucket) == ["some/prefix2/a"]


def test_housekeeping_aborts_uploads(
    bucket: TestBucket, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server does that by itself, from time to time."""
    _begin(bucket, f"some/prefix/{PATH}")
    monkeypatch.setattr("writers.housekeeping.ABANDONED_UPLOAD", timedelta(0))
    housekeeping = Housekeeping(
        lifecycle=Lifecycle(connections=connections),
        targets=Targets(default=bucket.store()),
        history_retention=timedelta(days=7),
        ticket_lifetime=timedelta(hours=1),
        lease=timedelta(seconds=30),
    )
    housekeeping.run()
    assert _unfinished(bucket) == []
    _begin(bucket, f"some/prefix/{PATH}")
    assert housekeeping.abort_uploads(DEFAULT_STORAGE) == 0  # not due again


@pytest.mark.parametrize("size", [1_000, PART_BYTES + 1], ids=["whole", "parts"])
def test_how_objects_are_stored(
    moto: ObjectServer, make_bucket: MakeBucket, make_source: MakeSource, size: int
) -> None:
    """Encryption and storage class go to the service with every new object."""
    bucket = make_bucket(moto)
    stored_as = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/ours", "StorageClass": "STANDARD_IA"}
    bucket.store(options=stored_as).put(make_source(big(size)), PATH)
    head = s3_client(moto.port).head_object(Bucket=bucket.name, Key=f"some/prefix/{PATH}")
    assert {name: head[name] for name in stored_as} == stored_as
