"""How an error travels: a serialized ``google.rpc.Status`` in the Flight error's ``extra_info``.

Go clients check that the status' code equals the call's and turn the error into INTERNAL otherwise, so the code here is
always the one of the kind. Source of the format: the google.rpc error model (status.proto, error_details.proto).
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from timestore.errors import TimestoreError, error

DOMAIN = "timestore"
MAX_RETRY_AFTER_S = 86_400.0  # a server that asks for longer waits is broken, or not ours
MAX_DETAILS_BYTES = 1200  # see timestore.errors for what errors travel in


def encode_status(failure: TimestoreError) -> bytes:
    """Encode an error as the bytes of a ``google.rpc.Status``. Details that would make it too long stay behind."""
    status = Status(code=int(failure.spec.grpc), message=str(failure))
    status.details.add().Pack(ErrorInfo(domain=DOMAIN, reason=failure.kind, metadata=_metadata(failure)))
    if failure.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(int(failure.retry_after_s * 1000))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return status.SerializeToString()


def _metadata(failure: TimestoreError) -> dict[str, str]:
    metadata = {"status": failure.spec.status}
    room = MAX_DETAILS_BYTES
    for name, value in failure.details.items():
        room -= len(name.encode()) + len(value.encode())
        if room >= 0:
            metadata[name] = value
    return metadata


def decode_status(extra_info: bytes) -> TimestoreError | None:
    """Rebuild the error that ``encode_status`` wrote; None if these bytes are not one of ours."""
    reason: ErrorInfo | None = None
    retry_after_s: float | None = None
    try:
        status = Status.FromString(extra_info)
        for detail in status.details:
            if detail.type_url.endswith("/google.rpc.ErrorInfo"):
                reason = ErrorInfo.FromString(detail.value)
            elif detail.type_url.endswith("/google.rpc.RetryInfo"):
                delay_ms = RetryInfo.FromString(detail.value).retry_delay.ToMilliseconds()
                retry_after_s = min(max(delay_ms, 0) / 1000, MAX_RETRY_AFTER_S)
    except DecodeError:
        return None
    if reason is None or reason.domain != DOMAIN:
        return None
    message = status.message.removeprefix(f"[{reason.reason}] ")
    return error(reason.reason, message, details=dict(reason.metadata), retry_after_s=retry_after_s)
