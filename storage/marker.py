"""The marker at the storage root: which catalog the files belong to."""

from __future__ import annotations

import json
from uuid import UUID

from storage.store import Store
from timestore.errors import error
from timestore.json_object import canonical_json

MARKER_PATH = "timestore.json"
FORMAT_VERSION = 1


def claim_root(store: Store, *, catalog_id: UUID, incarnation: UUID) -> None:
    """Mark an unmarked root as this catalog's, or check that it is.

    Raises ``fenced`` when the root belongs to another catalog: then nothing may be committed or deleted here.
    """
    ours = {"format": FORMAT_VERSION, "catalog_id": str(catalog_id), "incarnation": str(incarnation)}
    if store.put_bytes(canonical_json(ours).encode(), MARKER_PATH):
        return
    with store.open(MARKER_PATH) as file:
        found = json.load(file)
    if found != ours:
        raise error(
            "fenced",
            f"the storage at {store.url('')} belongs to catalog {found.get('catalog_id')}, not {catalog_id}; "
            "check --catalog-dsn and --storage-url",
        )
