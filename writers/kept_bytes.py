"""What a batch keeps in memory, which may be far more than its rows take."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def kept_bytes(batch: pa.RecordBatch) -> int:
    """Return how many bytes stay in memory as long as a batch does; its structure must be valid.

    The buffers of an uncompressed batch are parts of the message they came in. One row keeps all of it: gaps in the
    body, the rest of each buffer, and ``app_metadata``.
    """
    buffers: int = batch.get_total_buffer_size()
    message = next((_whole(buffer).size for buffer in _buffers(batch) if buffer.parent is not None), 0)
    return max(buffers, message)


def _buffers(batch: pa.RecordBatch) -> Iterator[pa.Buffer]:
    for column in batch.columns:
        yield from (buffer for buffer in column.buffers() if buffer is not None)


def _whole(buffer: pa.Buffer) -> pa.Buffer:
    while buffer.parent is not None:
        buffer = buffer.parent
    return buffer
