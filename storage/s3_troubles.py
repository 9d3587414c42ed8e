"""What an error of S3 means, and what to do about it: by its code, else by its status."""

from __future__ import annotations

import aiohttp
import botocore.exceptions
import botocore.parsers

from storage.bucket import BucketError, Trouble

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (the option profile), or the role of the machine"

_REGION = "the bucket is in another region; name it with the option region_name or AWS_REGION"
_CLOCK = "this machine's clock differs too much from the store's; let it take its time from NTP"
_CREDENTIALS = f"it does not know these credentials; check {CREDENTIALS}"
_TROUBLES = {
    "AccessDenied": (
        Trouble.REFUSED,
        "the credentials do not permit {operation} in bucket {bucket!r}, if there is one",
    ),
    "AllAccessDisabled": (Trouble.REFUSED, "the bucket is closed to everybody"),
    "AuthorizationHeaderMalformed": (Trouble.REFUSED, _REGION),
    "BadDigest": (Trouble.TRANSIENT, "what arrived is not what was sent"),
    "ConditionalRequestConflict": (Trouble.CONFLICT, "somebody else was writing the same object"),
    "ExpiredToken": (Trouble.REFUSED, "the credentials have expired; renew them"),
    "IllegalLocationConstraintException": (Trouble.REFUSED, _REGION),
    "IncompleteBody": (Trouble.TRANSIENT, "the request did not arrive whole"),
    "InvalidAccessKeyId": (Trouble.REFUSED, _CREDENTIALS),
    "InvalidBucketName": (Trouble.REFUSED, "{bucket!r} is no name of a bucket"),
    "InvalidPart": (Trouble.CONFLICT, "a part of the upload is gone"),
    "InvalidToken": (Trouble.REFUSED, _CREDENTIALS),
    "NoSuchBucket": (Trouble.REFUSED, "there is no bucket {bucket!r}; make it, or correct the storage URL"),
    "NoSuchKey": (Trouble.ABSENT, "there is no such object"),
    "NoSuchUpload": (Trouble.CONFLICT, "the multipart upload is gone"),
    "NotImplemented": (Trouble.REFUSED, "it does not know {operation}; it cannot hold Timestore's data"),
    "NotSignedUp": (Trouble.REFUSED, "the account has no S3"),
    "PermanentRedirect": (Trouble.REFUSED, _REGION),
    "PreconditionFailed": (Trouble.EXISTS, "there is an object of this name"),
    "QuotaExceeded": (Trouble.FULL, "its quota is used up; free space or raise it"),
    "RequestTimeTooSkewed": (Trouble.REFUSED, _CLOCK),
    "RequestTimeout": (Trouble.TRANSIENT, "the request took too long to arrive"),
    "SignatureDoesNotMatch": (Trouble.REFUSED, _CREDENTIALS),
    "XAmzContentSHA256Mismatch": (Trouble.TRANSIENT, "what arrived is not what was sent"),
    "XMinioStorageFull": (Trouble.FULL, "its disks are full; free space"),
}
_STATUSES = {
    301: _TROUBLES["PermanentRedirect"],
    401: (Trouble.REFUSED, _CREDENTIALS),
    403: (
        Trouble.REFUSED,
        f"the credentials are wrong, or do not permit {{operation}} in bucket {{bucket!r}}; check {CREDENTIALS}",
    ),
    404: _TROUBLES["NoSuchKey"],
    409: _TROUBLES["ConditionalRequestConflict"],
    412: _TROUBLES["PreconditionFailed"],
    507: (Trouble.FULL, "it has no room; free space"),
}
_NO_CREDENTIALS = (
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.ProfileNotFound,
    botocore.exceptions.SSOError,
    botocore.exceptions.TokenRetrievalError,
)
CONNECTION_ERRORS = (
    aiohttp.ClientError,
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.IncompleteReadError,
    OSError,
)


def explain(exc: Exception, *, bucket: str, endpoint: str) -> BucketError | None:
    """Say what an exception means; None for one that no driver raises."""
    if isinstance(exc, botocore.exceptions.ClientError):
        return _explain_answer(exc, bucket)
    if isinstance(exc, _NO_CREDENTIALS):
        return BucketError(Trouble.REFUSED, f"there are no usable credentials for it; give {CREDENTIALS}")
    if isinstance(exc, botocore.exceptions.SSLError):
        return BucketError(Trouble.REFUSED, "its TLS certificate is not trusted; name the CA's file (verify)")
    if isinstance(exc, CONNECTION_ERRORS):
        return BucketError(Trouble.TRANSIENT, f"{endpoint} cannot be reached ({type(exc).__name__})")
    if isinstance(exc, botocore.parsers.ResponseParserError):
        return BucketError(Trouble.TRANSIENT, f"{endpoint} does not answer as S3 does; is it an S3 store?")
    if isinstance(exc, (botocore.exceptions.BotoCoreError, ValueError)):
        return BucketError(Trouble.REFUSED, f"S3 cannot be asked so ({type(exc).__name__}); check URL and options")
    return None


def _explain_answer(exc: botocore.exceptions.ClientError, bucket: str) -> BucketError:
    code = str(exc.response.get("Error", {}).get("Code", ""))
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    otherwise = (Trouble.TRANSIENT if status >= 500 or status == 429 else Trouble.REFUSED, "it refuses {operation}")
    trouble, advice = _TROUBLES.get(code) or _STATUSES.get(status) or otherwise
    spelled = advice.format(operation=exc.operation_name, bucket=bucket)
    return BucketError(trouble, f"{spelled} ({code[:60] or status})")
