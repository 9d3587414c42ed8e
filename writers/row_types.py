"""Types for rows that come without: the dataset's, and for an append that is repeated those it had at first."""

from __future__ import annotations

import pyarrow as pa

from catalog.manifests import Manifests
from timestore.descriptor import PutDescriptor
from timestore.errors import TimestoreError, error


class RowTypes:
    """Looks up what rows without types are to be read as. Thread safe.

    An append is repeated by the same text; it must get the same types, and so the same fingerprint, whatever became of
    the dataset's schema since. So such rows are committed under the schema that they were read by, or not at all
    (``PutDescriptor.typed_by_dataset``).
    """

    def __init__(self, *, manifests: Manifests) -> None:
        self._manifests = manifests

    def find(self, descriptor: PutDescriptor) -> pa.Schema | None:
        """Return the schema to read a put's rows by; None if its dataset does not exist."""
        dataset = self._manifests.find(descriptor.dataset)
        if dataset is None:
            return None
        if descriptor.idempotency_key is not None:
            known = self._manifests.append(dataset, descriptor.idempotency_key)
            if known is not None and known.receipt is not None:
                return self._manifests.schema_at(dataset, known.receipt.version)
        return dataset.schema

    def check_conflict(self, descriptor: PutDescriptor, used: pa.Schema | None) -> None:
        """Look again when rows read by a schema seem to be another append: perhaps they should be read by another.

        Raises ``fenced``, which asks for the put to be repeated.
        """
        now = self.find(descriptor)
        if now is not None and (used is None or not now.equals(used)):
            raise schema_moved(descriptor.dataset)


def schema_moved(dataset: str) -> TimestoreError:
    return error(
        "fenced",
        f"the schema of {dataset!r} changed while these rows, which have its types, were on their way; send this again",
        details={"dataset": dataset},
        retry_after_s=1.0,
    )
