"""Buckets of Google Cloud Storage.

gcsfs finds credentials and keeps the session; requests are made with that session, for gcsfs repeats them by its own
rules, without a deadline. ``ifGenerationMatch=0`` is this service's "unless it is there"; it compares what it got with
the MD5 that is sent along.

An upload session that is never finished cannot be listed, is not visible and ends by itself after a week: there is
nothing to sweep.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import google.auth.exceptions
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError, NonRetryableError

from storage.bucket import Attempts, Blob, BucketError, Marks, Page, PartedFile, Trouble
from storage.location import Location, Option, endpoint, parse_options, yes_or_no

CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, or the machine's service account"
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=20)
_RESUME_INCOMPLETE = 308
_OPTIONS: dict[str, Option] = {
    "anonymous": yes_or_no,
    "endpoint_url": endpoint,
    "kms_key_name": str,
    "storage_class": str,
}
_TROUBLES = {
    401: (Trouble.REFUSED, f"it does not know these credentials; check {CREDENTIALS}"),
    403: (Trouble.REFUSED, "the credentials do not permit this; give them the role Storage Object User"),
    404: (Trouble.ABSENT, "there is no such object"),
    408: (Trouble.TRANSIENT, "the request took too long to arrive"),
    409: (Trouble.CONFLICT, "something else is going on with this object"),
    410: (Trouble.CONFLICT, "the upload is gone"),
    412: (Trouble.EXISTS, "there is an object of this name"),
    429: (Trouble.TRANSIENT, "it is asked too often"),
    507: (Trouble.FULL, "it has no room; free space"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """What it says, if it is JSON."""
        parsed: dict[str, Any] = json.loads(self.content)
        return parsed


def open_bucket(location: Location, options: Mapping[str, str]) -> GCSBucket:
    """Return a bucket, without asking it anything; raises ``unsupported`` for options that GCS does not have."""
    parsed = parse_options(options, _OPTIONS, store="GCS", credentials=CREDENTIALS)
    return GCSBucket(
        bucket=location.bucket,
        endpoint_url=str(parsed["endpoint_url"]) if "endpoint_url" in parsed else None,
        anonymous=bool(parsed.get("anonymous")),
        stored_as={"storageClass": parsed["storage_class"]} if "storage_class" in parsed else {},
        parameters={"kmsKeyName": str(parsed["kms_key_name"])} if "kms_key_name" in parsed else {},
    )


class GCSBucket:
    """A bucket of Google Cloud Storage."""

    def __init__(
        self,
        *,
        bucket: str,
        endpoint_url: str | None,
        anonymous: bool,
        stored_as: Mapping[str, object],
        parameters: Mapping[str, str],
    ) -> None:
        self._bucket = bucket
        self._endpoint_url = endpoint_url
        self._anonymous = anonymous
        self._stored_as = stored_as
        self._parameters = parameters
        self._opening = asyncio.Lock()
        self._opened: GCSFileSystem | None = None

    async def create(self, attempts: Attempts, name: str, content: bytes, marks: Marks) -> None:
        digest = await asyncio.to_thread(hashlib.md5, content, usedforsecurity=False)
        boundary = uuid4().hex
        described = json.dumps(self._described(name, marks, digest.digest())).encode()
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/json\r\n\r\n".encode(),
                described,
                f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(),
                content,
                f"\r\n--{boundary}--".encode(),
            )
        )
        kind = {"Content-Type": f"multipart/related; boundary={boundary}"}
        query = {"uploadType": "multipart"} | self._created
        await self._begin(attempts, lambda: self._ask("POST", self._uploads, query, headers=kind, body=body))

    async def create_in_parts(self, attempts: Attempts, name: str, file: PartedFile, marks: Marks) -> None:
        digest = await asyncio.to_thread(_md5_of, file)
        described = json.dumps(self._described(name, marks, digest)).encode()
        kind = {"Content-Type": "application/json"}
        query = {"uploadType": "resumable", "name": name} | self._created
        started = await self._begin(
            attempts, lambda: self._ask("POST", self._uploads, query, headers=kind, body=described)
        )
        session = started.headers["Location"]
        sent: dict[int, asyncio.Event] = {0: asyncio.Event()}
        sent[0].set()
        begins = 0

        async def send_part(number: int, content: bytes) -> None:
            """Send a part when its turn has come: this service takes them in order only."""
            nonlocal begins
            await sent.setdefault(number - 1, asyncio.Event()).wait()
            await self._send_part(attempts, session, begins, content, file.size)
            begins += len(content)
            sent.setdefault(number, asyncio.Event()).set()

        await file.send(send_part)

    async def stat(self, attempts: Attempts, name: str) -> Blob | None:
        try:
            answer = await attempts(lambda: self._ask("GET", self._object(name), {}))
        except BucketError as exc:
            await self._check_absence(attempts, exc)
            return None
        fields = answer.fields
        return Blob(name=name, bytes=int(fields["size"]), marks=fields.get("metadata", {}))

    async def read(self, attempts: Attempts, name: str, start: int, size: int) -> bytes:
        wanted = {"Range": f"bytes={start}-{start + size - 1}"}
        answer = await attempts(lambda: self._ask("GET", self._object(name), {"alt": "media"}, headers=wanted))
        return answer.content

    async def page(self, attempts: Attempts, prefix: str, after: str | None, size: int) -> Page:
        query = {"prefix": prefix, "maxResults": str(size), "fields": "items(name,size),nextPageToken"}
        if after is not None:
            query["pageToken"] = after
        try:
            answer = await attempts(lambda: self._ask("GET", f"/storage/v1/b/{quote(self._bucket)}/o", query))
        except BucketError as exc:
            if exc.trouble is not Trouble.ABSENT:
                raise
            advice = f"there is no bucket {self._bucket!r}; make it, or correct the storage URL"
            raise BucketError(Trouble.REFUSED, advice) from None
        found = answer.fields
        blobs = [Blob(name=each["name"], bytes=int(each["size"]), marks={}) for each in found.get("items", [])]
        return Page(blobs=blobs, after=found.get("nextPageToken"))

    async def delete(self, attempts: Attempts, name: str) -> None:
        try:
            await attempts(lambda: self._ask("DELETE", self._object(name), {}))
        except BucketError as exc:
            await self._check_absence(attempts, exc)

    async def abort_uploads(self, attempts: Attempts, prefix: str, before: datetime) -> int:  # noqa: ARG002
        return 0  # the service does it

    def explain(self, exc: Exception) -> BucketError | None:
        if isinstance(exc, (google.auth.exceptions.TransportError, aiohttp.ClientError, OSError)):
            return BucketError(
                Trouble.TRANSIENT, f"{self._endpoint_url or 'GCS'} cannot be reached ({type(exc).__name__})"
            )
        if isinstance(
            exc, (google.auth.exceptions.GoogleAuthError, HttpError, NonRetryableError)
        ):  # of the credentials
            return BucketError(Trouble.REFUSED, f"there are no usable credentials for it; give {CREDENTIALS}")
        if isinstance(exc, ValueError):
            return BucketError(Trouble.REFUSED, f"GCS cannot be asked so ({type(exc).__name__}); check URL and options")
        return None

    @property
    def _uploads(self) -> str:
        return f"/upload/storage/v1/b/{quote(self._bucket)}/o"

    @property
    def _created(self) -> dict[str, str]:
        return {"ifGenerationMatch": "0", **self._parameters}

    def _object(self, name: str) -> str:
        return f"/storage/v1/b/{quote(self._bucket)}/o/{quote(name, safe='')}"

    def _described(self, name: str, marks: Marks, digest: bytes) -> dict[str, object]:
        md5 = base64.b64encode(digest).decode()
        return {"name": name, "metadata": dict(marks), "md5Hash": md5, **self._stored_as}

    async def _send_part(self, attempts: Attempts, session: str, start: int, content: bytes, size: int) -> None:
        """Send what the service does not have of a part; after a failure it is asked how far it has come."""
        stop = start + len(content)
        has: int | None = start

        async def put() -> None:
            nonlocal has
            if has is None:
                has = _received(await self._ask("PUT", session, {}, headers={"Content-Range": f"bytes */{size}"}), size)
            if has < stop or not content:
                rest, has_now = content[has - start :], has
                has = None
                spelled = f"bytes {has_now}-{stop - 1}/{size}"
                await self._ask("PUT", session, {}, headers={"Content-Range": spelled}, body=rest)

        await attempts(put)

    async def _begin(self, attempts: Attempts, request: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Make a request that creates: what it does not find can only be the bucket."""
        try:
            return await attempts(request)
        except BucketError as exc:
            if exc.trouble is Trouble.ABSENT:
                await self._check_absence(attempts, exc)
            raise

    async def _check_absence(self, attempts: Attempts, exc: BucketError) -> None:
        """Raise what else was wrong; also that it is the bucket that is not there."""
        if exc.trouble is not Trouble.ABSENT:
            raise exc
        await self.page(attempts, "timestore.", None, 1)

    async def _ask(
        self,
        method: str,
        where: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> _Answer:
        filesystem = await self._filesystem()
        session = await filesystem._set_session()
        signed = await asyncio.to_thread(filesystem._get_headers, dict(headers or {}))  # may renew a token
        url = where if where.startswith("http") else f"{filesystem._location}{where}"
        async with session.request(
            method, url, params=query, headers=signed, data=body, timeout=_TIMEOUT, allow_redirects=False
        ) as response:
            answer = _Answer(status=response.status, headers=response.headers, content=await response.read())
        if answer.status >= 400:
            raise _trouble(answer.status)
        return answer

    async def _filesystem(self) -> GCSFileSystem:
        """Open the driver on first use: it looks for credentials then, on the network too."""
        async with self._opening:
            if self._opened is None:
                self._opened = await asyncio.to_thread(
                    GCSFileSystem,
                    project="",  # nothing here needs one
                    token="anon" if self._anonymous else "google_default",
                    endpoint_url=self._endpoint_url,
                    skip_instance_cache=True,
                    use_listings_cache=False,
                )
            return self._opened


def _trouble(status: int) -> BucketError:
    otherwise = (Trouble.TRANSIENT if status >= 500 else Trouble.REFUSED, "it refuses the request")
    trouble, advice = _TROUBLES.get(status, otherwise)
    return BucketError(trouble, f"{advice} ({status})")


def _received(answer: _Answer, size: int) -> int:
    """Return how many bytes of an upload the service says it has."""
    if answer.status != _RESUME_INCOMPLETE:
        return size  # it is complete
    _, _, last = answer.headers.get("Range", "").rpartition("-")
    return int(last) + 1 if last else 0


def _md5_of(file: PartedFile) -> bytes:
    with file.path.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).digest()
