"""Containers of Azure Blob Storage.

adlfs finds credentials and keeps the client; requests are made with that client, for adlfs bounds neither the blocks in
flight nor the time that a request may take. The service compares each body with its Content-MD5.

Blocks that were sent and never committed are not visible, and cannot be listed or deleted by themselves: Azure throws
them away after a week, or once the blob is written. So there is nothing to sweep.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

import aiohttp
from adlfs import AzureBlobFileSystem
from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import BlobBlock

from storage.bucket import Attempts, Blob, BucketError, Marks, Page, PartedFile, Trouble
from storage.location import Location, Option, one_of, parse_options
from timestore.errors import error

CREDENTIALS = (
    "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or "
    "AZURE_STORAGE_SAS_TOKEN, or a managed identity"
)
# Of every request: attempts and their deadline are ours, and no answer is waited for for ever.
_REQUEST = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 20}
_OPTIONS: dict[str, Option] = {
    "access_tier": one_of("Hot", "Cool", "Cold"),
    "account_host": str,
    "account_name": str,
    "encryption_scope": str,
}

_CREDENTIALS = (Trouble.REFUSED, f"it does not know these credentials; check {CREDENTIALS}")
_PERMISSION = (Trouble.REFUSED, "the credentials do not permit this; give them the role Storage Blob Data Contributor")
_TROUBLES = {
    "AccountIsDisabled": (Trouble.REFUSED, "the account is disabled"),
    "AuthenticationFailed": _CREDENTIALS,
    "AuthorizationFailure": _PERMISSION,
    "AuthorizationPermissionMismatch": _PERMISSION,
    "BlobAlreadyExists": (Trouble.EXISTS, "there is a blob of this name"),
    "BlobNotFound": (Trouble.ABSENT, "there is no such blob"),
    "ConditionNotMet": (Trouble.EXISTS, "there is a blob of this name"),
    "ContainerBeingDeleted": (Trouble.REFUSED, "the container {bucket!r} is being deleted"),
    "ContainerNotFound": (Trouble.REFUSED, "there is no container {bucket!r}; make it, or correct the storage URL"),
    "InsufficientAccountPermissions": _PERMISSION,
    "InvalidAuthenticationInfo": _CREDENTIALS,
    "InvalidBlockList": (Trouble.CONFLICT, "blocks of the upload are gone"),
    "InvalidResourceName": (Trouble.REFUSED, "{bucket!r} is no name of a container"),
    "Md5Mismatch": (Trouble.TRANSIENT, "what arrived is not what was sent"),
    "NoAuthenticationInformation": _CREDENTIALS,
    "PublicAccessNotPermitted": _CREDENTIALS,
}
_STATUSES = {
    401: _CREDENTIALS,
    403: _PERMISSION,
    404: _TROUBLES["BlobNotFound"],
    408: (Trouble.TRANSIENT, "the request took too long to arrive"),
    409: (Trouble.CONFLICT, "something else is going on with this blob"),
    412: _TROUBLES["ConditionNotMet"],
    507: (Trouble.FULL, "it has no room; free space"),
}


def open_bucket(location: Location, options: Mapping[str, str]) -> AzureContainer:
    """Return a container, without asking it anything; raises ``unsupported`` for options that Azure does not have."""
    parsed = parse_options(options, _OPTIONS, store="Azure", credentials=CREDENTIALS)
    if location.account:  # container@account.dfs.core.windows.net
        parsed.setdefault("account_name", location.account.partition(".")[0])
    account = {name: parsed[name] for name in ("account_name", "account_host") if name in parsed}
    try:
        filesystem = AzureBlobFileSystem(**account, skip_instance_cache=True, use_listings_cache=False)
    except ValueError:  # of adlfs, and its text may have the connection string
        raise error("unsupported", f"the Azure account cannot be opened; give {CREDENTIALS}") from None
    stored_as: dict[str, object] = {}
    if "access_tier" in parsed:
        stored_as["standard_blob_tier"] = parsed["access_tier"]
    if "encryption_scope" in parsed:
        stored_as["encryption_scope"] = parsed["encryption_scope"]
    return AzureContainer(filesystem=filesystem, container=location.bucket, stored_as=stored_as)


class AzureContainer:
    """A container of Azure Blob Storage."""

    def __init__(self, *, filesystem: AzureBlobFileSystem, container: str, stored_as: Mapping[str, object]) -> None:
        self._filesystem = filesystem
        self._name = container
        self._container: Any = filesystem.service_client.get_container_client(container)
        self._stored_as = stored_as

    async def create(self, attempts: Attempts, name: str, content: bytes, marks: Marks) -> None:
        blob = self._container.get_blob_client(name)
        await attempts(
            lambda: blob.upload_blob(
                io.BytesIO(content),
                length=len(content),
                overwrite=False,
                validate_content=True,
                metadata=dict(marks),
                **self._stored_as,
                **_REQUEST,
            )
        )

    async def create_in_parts(self, attempts: Attempts, name: str, file: PartedFile, marks: Marks) -> None:
        blob = self._container.get_blob_client(name)
        upload = uuid4().hex  # so that attempts at the same time do not mix their blocks
        encryption = {key: value for key, value in self._stored_as.items() if key == "encryption_scope"}

        async def send_part(number: int, content: bytes) -> BlobBlock:
            block_id = base64.b64encode(f"{upload}{number:06}".encode()).decode()
            await attempts(
                lambda: blob.stage_block(
                    block_id, io.BytesIO(content), length=len(content), validate_content=True, **encryption, **_REQUEST
                )
            )
            return BlobBlock(block_id=block_id)

        blocks = await file.send(send_part)
        await attempts(
            lambda: blob.commit_block_list(
                blocks,
                metadata=dict(marks),
                match_condition=MatchConditions.IfMissing,
                **self._stored_as,
                **_REQUEST,
            )
        )

    async def stat(self, attempts: Attempts, name: str) -> Blob | None:
        blob = self._container.get_blob_client(name)
        try:
            found = await attempts(lambda: blob.get_blob_properties(**_REQUEST))
        except BucketError as exc:
            if exc.trouble is not Trouble.ABSENT:
                raise
            return None
        return Blob(name=name, bytes=found.size, marks=found.metadata or {})

    async def read(self, attempts: Attempts, name: str, start: int, size: int) -> bytes:
        blob = self._container.get_blob_client(name)

        async def get() -> bytes:
            answer = await blob.download_blob(start, size, max_concurrency=1, **_REQUEST)
            content: bytes = await answer.readall()
            return content

        return await attempts(get)

    async def page(self, attempts: Attempts, prefix: str, after: str | None, size: int) -> Page:
        async def ask() -> Page:
            listing = self._container.list_blobs(
                name_starts_with=prefix, include=["metadata"], results_per_page=size, **_REQUEST
            )
            pages = listing.by_page(continuation_token=after)
            found = [each async for each in await anext(pages)]
            return Page(
                blobs=[Blob(name=each.name, bytes=each.size, marks={}) for each in found if not _is_directory(each)],
                after=pages.continuation_token or None,
            )

        return await attempts(ask)

    async def delete(self, attempts: Attempts, name: str) -> None:
        blob = self._container.get_blob_client(name)
        try:
            await attempts(lambda: blob.delete_blob(**_REQUEST))
        except BucketError as exc:
            if exc.trouble is not Trouble.ABSENT:
                raise

    async def abort_uploads(self, attempts: Attempts, prefix: str, before: datetime) -> int:  # noqa: ARG002
        return 0  # the service does it

    def explain(self, exc: Exception) -> BucketError | None:
        if isinstance(exc, HttpResponseError) and exc.status_code:
            return self._explain_answer(exc)
        if isinstance(exc, ClientAuthenticationError):  # of azure.identity: nobody was asked yet
            return BucketError(Trouble.REFUSED, f"there are no usable credentials for it; give {CREDENTIALS}")
        if isinstance(exc, (ServiceRequestError, ServiceResponseError, aiohttp.ClientError, OSError)):
            return BucketError(Trouble.TRANSIENT, f"{self._host()} cannot be reached ({type(exc).__name__})")
        if isinstance(exc, (AzureError, ValueError)):
            return BucketError(
                Trouble.REFUSED, f"Azure cannot be asked so ({type(exc).__name__}); check URL and options"
            )
        return None

    def _explain_answer(self, exc: HttpResponseError) -> BucketError:
        code = str(getattr(exc, "error_code", None) or "")
        code = code.rpartition(".")[2]
        status = exc.status_code or 0
        otherwise = (Trouble.TRANSIENT if status >= 500 or status == 429 else Trouble.REFUSED, "it refuses the request")
        trouble, advice = _TROUBLES.get(code) or _STATUSES.get(status) or otherwise
        return BucketError(trouble, f"{advice.format(bucket=self._name)} ({code[:60] or status})")

    def _host(self) -> str:
        return str(self._filesystem.service_client.primary_hostname)


def _is_directory(blob: Any) -> bool:
    """Say whether it is what accounts with a hierarchical namespace list for a directory."""
    return bool((blob.metadata or {}).get("hdi_isfolder"))
