"""Buckets of S3, and of the many stores that speak its protocol.

s3fs finds credentials and keeps the session; requests are made with its client, for s3fs neither makes the completion
of a multipart upload conditional nor lets anybody bound its parts.

The service compares each body with its Content-MD5. That is the one check that every store of this protocol makes, and
with it, over TLS, the payload need not be hashed for the signature as well. ETags that are MD5s are compared too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
from s3fs import S3FileSystem

from storage.bucket import Attempts, Blob, BucketError, Marks, Page, PartedFile, Trouble
from storage.location import Location, Option, endpoint, one_of, parse_options, yes_or_no
from storage.s3_troubles import CONNECTION_ERRORS, CREDENTIALS, explain
from timestore.errors import error

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
ABORT_TIMEOUT_S = 5.0
CONNECTIONS = 32

# How each new object is to be stored: passed through as the S3 API names them.
_STORED_AS: dict[str, Option] = {
    "BucketKeyEnabled": yes_or_no,
    "SSEKMSKeyId": str,
    "ServerSideEncryption": one_of("AES256", "aws:kms", "aws:kms:dsse"),
    "StorageClass": str,
}
_OPTIONS: dict[str, Option] = {
    "addressing_style": one_of("auto", "path", "virtual"),
    "endpoint_url": endpoint,
    "profile": str,
    "region_name": str,
    "verify": str,
    **_STORED_AS,
}

_MD5 = re.compile(r'"?([0-9a-f]{32})"?\Z')


def open_bucket(location: Location, options: Mapping[str, str]) -> S3Bucket:
    """Return a bucket, without asking it anything; raises ``unsupported`` for options that S3 does not have."""
    parsed = parse_options(options, _OPTIONS, store="S3", credentials=CREDENTIALS)
    client = {name: parsed[name] for name in ("region_name", "verify") if name in parsed}
    config: dict[str, object] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": CONNECTIONS,
        "retries": {"total_max_attempts": 1},  # attempts and their deadline are ours
        "request_checksum_calculation": "when_required",  # Content-MD5 is there, and not all stores know the others
        "response_checksum_validation": "when_required",
    }
    if "addressing_style" in parsed:
        config["s3"] = {"addressing_style": parsed["addressing_style"]}
    try:
        filesystem = S3FileSystem(
            endpoint_url=parsed.get("endpoint_url"),
            client_kwargs=client,
            config_kwargs=config,
            skip_instance_cache=True,
            use_listings_cache=False,
            **({"profile": parsed["profile"]} if "profile" in parsed else {}),
        )
    except botocore.exceptions.BotoCoreError as exc:
        raise error("unsupported", f"S3 cannot be used with these options: {type(exc).__name__}") from None
    stored_as = {name: value for name, value in parsed.items() if name in _STORED_AS}
    return S3Bucket(filesystem=filesystem, bucket=location.bucket, stored_as=stored_as)


class S3Bucket:
    """A bucket of S3."""

    def __init__(self, *, filesystem: S3FileSystem, bucket: str, stored_as: Mapping[str, object]) -> None:
        self._filesystem = filesystem
        self._bucket = bucket
        self._stored_as = stored_as

    async def create(self, attempts: Attempts, name: str, content: bytes, marks: Marks) -> None:
        digest = await asyncio.to_thread(_md5, content)

        async def put() -> None:
            answer = await self._call(
                "put_object",
                Key=name,
                Body=io.BytesIO(content),
                ContentMD5=_base64(digest),
                IfNoneMatch="*",
                Metadata=dict(marks),
                **self._stored_as,
            )
            if not _etag_agrees(answer, digest):
                raise error(
                    "internal", f"the object store keeps something else than it was sent as {name}: its ETag differs"
                )

        await attempts(put)

    async def create_in_parts(self, attempts: Attempts, name: str, file: PartedFile, marks: Marks) -> None:
        created = await attempts(
            lambda: self._call("create_multipart_upload", Key=name, Metadata=dict(marks), **self._stored_as)
        )
        upload = {"Key": name, "UploadId": created["UploadId"]}

        async def send_part(number: int, content: bytes) -> dict[str, object]:
            return await self._send_part(attempts, upload, number, content)

        try:
            parts = await file.send(send_part)
            await attempts(
                lambda: self._call(
                    "complete_multipart_upload", **upload, IfNoneMatch="*", MultipartUpload={"Parts": parts}
                )
            )
        except BaseException:
            await self._give_up(upload)  # also a completed one, whose answer was lost: that does nothing
            raise

    async def stat(self, attempts: Attempts, name: str) -> Blob | None:
        try:
            head = await attempts(lambda: self._call("head_object", Key=name))
        except BucketError as exc:
            if exc.trouble is not Trouble.ABSENT:
                raise
            await self.page(attempts, name, None, 1)  # which can tell that the bucket itself is gone
            return None
        return Blob(name=name, bytes=head["ContentLength"], marks=head.get("Metadata", {}))

    async def read(self, attempts: Attempts, name: str, start: int, size: int) -> bytes:
        async def get() -> bytes:
            answer = await self._call("get_object", Key=name, Range=f"bytes={start}-{start + size - 1}")
            async with answer["Body"] as body:
                content: bytes = await body.read()
            if len(content) != size:
                raise BucketError(Trouble.TRANSIENT, f"{len(content)} bytes came instead of {size}")
            return content

        return await attempts(get)

    async def page(self, attempts: Attempts, prefix: str, after: str | None, size: int) -> Page:
        more = {} if after is None else {"ContinuationToken": after}
        answer = await attempts(lambda: self._call("list_objects_v2", Prefix=prefix, MaxKeys=size, **more))
        blobs = [Blob(name=each["Key"], bytes=each["Size"], marks={}) for each in answer.get("Contents", [])]
        return Page(blobs=blobs, after=answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    async def delete(self, attempts: Attempts, name: str) -> None:
        await attempts(lambda: self._call("delete_object", Key=name))
        for each in await self._unfinished(attempts, name):
            if each["Key"] == name:
                await self._abort(attempts, each)

    async def abort_uploads(self, attempts: Attempts, prefix: str, before: datetime) -> int:
        old = [each for each in await self._unfinished(attempts, prefix) if each["Initiated"] < before]
        for each in old:
            await self._abort(attempts, each)
        return len(old)

    def explain(self, exc: Exception) -> BucketError | None:
        return explain(exc, bucket=self._bucket, endpoint=self._endpoint())

    async def _call(self, operation: str, **arguments: Any) -> Any:
        client = await self._filesystem.set_session()
        return await getattr(client, operation)(Bucket=self._bucket, **arguments)

    async def _send_part(
        self, attempts: Attempts, upload: Mapping[str, str], number: int, content: bytes
    ) -> dict[str, object]:
        digest = await asyncio.to_thread(_md5, content)

        async def put() -> dict[str, object]:
            answer = await self._call(
                "upload_part", **upload, PartNumber=number, Body=io.BytesIO(content), ContentMD5=_base64(digest)
            )
            if not _etag_agrees(answer, digest):
                raise BucketError(Trouble.TRANSIENT, "it keeps something else than it was sent (its ETag differs)")
            return {"PartNumber": number, "ETag": answer["ETag"]}

        return await attempts(put)

    async def _give_up(self, upload: Mapping[str, str]) -> None:
        """Abort an upload that failed, if the store still answers; what stays is swept."""
        try:
            async with asyncio.timeout(ABORT_TIMEOUT_S):
                await self._call("abort_multipart_upload", **upload)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, *CONNECTION_ERRORS):
            pass

    async def _unfinished(self, attempts: Attempts, prefix: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more: dict[str, str] | None = {}
        while more is not None:
            ask = partial(self._call, "list_multipart_uploads", Prefix=prefix, **more)
            answer = await attempts(ask)
            found += answer.get("Uploads", [])
            more = None
            if answer.get("IsTruncated"):
                more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
        return found

    async def _abort(self, attempts: Attempts, upload: Mapping[str, Any]) -> None:
        try:
            await attempts(lambda: self._call("abort_multipart_upload", Key=upload["Key"], UploadId=upload["UploadId"]))
        except BucketError as exc:
            if exc.trouble is not Trouble.CONFLICT:  # it has ended meanwhile
                raise

    def _endpoint(self) -> str:
        """Return the address that was asked, without the user that one in the environment may have."""
        client = self._filesystem._s3
        address = urlsplit(client.meta.endpoint_url if client else self._filesystem.endpoint_url or "")
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}" if address.netloc else "the store"


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _etag_agrees(answer: Mapping[str, Any], digest: bytes) -> bool:
    """Compare an ETag that is an MD5, as it is unless keys of KMS or of the caller encrypt the object."""
    encrypted = str(answer.get("ServerSideEncryption", "")).startswith("aws:") or "SSECustomerAlgorithm" in answer
    found = _MD5.match(str(answer.get("ETag", "")))
    return encrypted or found is None or found[1] == digest.hex()
