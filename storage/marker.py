"""The marker at the storage root: which catalog the files belong to."""

from __future__ import annotations

import json
from uuid import UUID

from storage.store import Store
from timestore.errors import error
from timestore.json_object import canonical_json

MARKER_PATH = "timestore.json"
FORMAT_VERSION = 1


def claim_root(store: Store, *, catalog_id: UUID, incarnation: UUID, is_new: bool) -> None:
    """Mark an unmarked root as a new catalog's, or check that the root is this catalog's.

    A catalog that is not ``is_new`` has files under a marked root: an unmarked one is not where they are. Raises
    ``fenced`` when root and catalog do not belong together: then nothing may be committed or deleted here.
    """
    ours = {"format": FORMAT_VERSION, "catalog_id": str(catalog_id), "incarnation": str(incarnation)}
    if is_new and store.put_bytes(canonical_json(ours).encode(), MARKER_PATH):
        return
    found = _read_marker(store)
    if found != ours:
        owner = f"belongs to catalog {found['catalog_id']}" if "catalog_id" in found else "has no marker of a catalog"
        raise error(
            "fenced",
            f"the storage at {store.url('')} {owner}, but the catalog is {catalog_id}; check --catalog-dsn and "
            "--storage-url",
        )


def _read_marker(store: Store) -> dict[str, object]:
    """Return what the marker says; nothing if there is none, or none that Timestore wrote."""
    try:
        with store.open(MARKER_PATH) as file:
            marker = json.load(file)
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return marker if isinstance(marker, dict) else {}
