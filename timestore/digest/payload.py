"""The digest of a whole put, and the fingerprint that an idempotency key is compared by."""

import json
from collections.abc import Mapping

import pyarrow as pa
import xxhash

from timestore.digest.logical import logical_schema, logical_type
from timestore.digest.nodes import counted, framed, node


class PayloadDigest:
    """The running ``d1`` digest of one put. Not thread safe.

    Raise TypeError for a schema with a type that has no digest (see ``logical_schema``).
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = [(field.name, node(logical_type(field))) for field in schema]
        self._rows = 0

    @property
    def rows(self) -> int:
        """The number of rows so far."""
        return self._rows

    def update(self, batch: pa.RecordBatch) -> None:
        """Append the batch's rows.

        The batch must be valid (``validate(full=True)``) and have the schema's columns in its order. Each may be in
        any form of its logical type, so a caller who has decoded a dictionary already need not pay for it again. Raise
        TypeError for other columns, and ValueError for a single value of 4 GiB; the digest is of no use afterwards.
        """
        if not batch.schema.equals(self._schema):
            self._accept(batch.schema)
        for position, (_, column) in enumerate(self._columns):
            column.update(batch.column(position))
        self._rows += batch.num_rows

    def finish(self) -> str:
        """Return ``d1:`` and 32 hex digits for the rows so far. Changes nothing, so it may be called again."""
        parts = [counted(self._rows), counted(len(self._columns))]
        for name, column in sorted(self._columns, key=lambda item: item[0].encode()):
            parts += (framed(name), column.digest())
        return f"d1:{xxhash.xxh3_128_hexdigest(b''.join(parts))}"

    def _accept(self, schema: pa.Schema) -> None:
        if schema.names != self._schema.names or logical_schema(schema) != logical_schema(self._schema):
            raise TypeError("the batch has other columns than its stream")
        self._schema = schema  # the next batch will look like this one


def fingerprint(*, key: Mapping[str, str], schema: pa.Schema, payload_digest: str) -> str:
    """Return ``f1:`` and 32 hex digits for what a put says: its semantic key, logical schema and payload.

    Raise TypeError for a schema with a type that has no digest.
    """
    content = {"key": dict(sorted(key.items())), "payload": payload_digest, "schema": logical_schema(schema)}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return f"f1:{xxhash.xxh3_128_hexdigest(text.encode())}"
