"""A stream that is compared with what was committed before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from catalog.records import KnownAppend
from timestore.descriptor import PutDescriptor
from timestore.errors import TimestoreError
from writers.put import RepeatedPut


def _far_lists() -> pa.RecordBatch:
    """Lists that end far behind their values, which Arrow would not let one make."""
    offsets = np.array([0, 2, 3], np.int32)
    texts = pa.array(["a", "b", "c"])
    lists = pa.Array.from_buffers(pa.list_(texts.type), 2, [None, pa.py_buffer(offsets)], children=[texts])
    batch = pa.record_batch({"tags": lists})
    offsets[1:] = (1 << 30, (1 << 30) + 1)
    return batch


def test_a_repeated_batch_is_checked_first() -> None:
    """Nothing is asked of a batch that is not valid, its size included: that would end the process."""
    batch = _far_lists()
    put = RepeatedPut(
        descriptor=PutDescriptor(dataset="cpu", idempotency_key="a"),
        idempotency_key="a",
        schema=batch.schema,
        schema_version=1,
        known=KnownAppend(abandoned=False, fingerprint="f", receipt=None),
        max_batch_bytes=1 << 20,
    )
    with pytest.raises(TimestoreError) as caught:
        put.add(batch)
    assert (caught.value.kind, put.rows, put.bytes) == ("batch_invalid", 0, 0)
