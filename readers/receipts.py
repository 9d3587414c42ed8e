"""What became of an append."""

from __future__ import annotations

from catalog.manifests import Manifests
from timestore.datasets import Dataset
from timestore.errors import error
from timestore.receipt import Receipt


def find_receipt(manifests: Manifests, dataset: Dataset, idempotency_key: str) -> Receipt:
    """Return the receipt of an append; raises ``receipt_not_found`` or ``idempotency_abandoned``."""
    known = manifests.append(dataset, idempotency_key)
    if known is not None and known.abandoned:
        raise error(
            "idempotency_abandoned",
            f"the idempotency key {idempotency_key!r} was abandoned and can never commit; use a new one",
            details={"idempotency_key": idempotency_key},
        )
    if known is None or known.receipt is None:
        raise error(
            "receipt_not_found",
            f"nothing has committed with the idempotency key {idempotency_key!r} yet; sending it again is safe",
            details={"dataset": dataset.spec.name, "idempotency_key": idempotency_key},
        )
    return known.receipt
