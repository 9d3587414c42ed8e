"""The marker at the storage root: which catalog the files belong to."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

from storage.store import Store
from timestore.errors import TimestoreError, error
from timestore.json_object import canonical_json

MARKER_PATH = "timestore.json"
FORMAT_VERSION = 1


def claim_root(store: Store, *, catalog_id: UUID, incarnation: UUID, settled: UUID | None) -> UUID:
    """Check that a root is this catalog's, and return its id; mark it if neither catalog nor root know each other.

    ``settled`` is the root that the catalog has its files in, None while it has none. Raises ``fenced`` when root and
    catalog do not belong together: then nothing may be committed or deleted here.
    """
    if settled is None:
        marker = _marker(catalog_id, incarnation) | {"root_id": str(uuid4())}
        store.put_bytes(canonical_json(marker).encode(), MARKER_PATH)
    return find_root(store, catalog_id=catalog_id, incarnation=incarnation, settled=settled)


def find_root(store: Store, *, catalog_id: UUID, incarnation: UUID, settled: UUID | None = None) -> UUID:
    """Return the id of a root that is this catalog's already, and just the settled one; raises ``fenced``."""
    found = _read_marker(store)
    root_id = found.pop("root_id", None)
    if (
        found != _marker(catalog_id, incarnation)
        or not isinstance(root_id, str)
        or settled not in (None, UUID(root_id))
    ):
        raise foreign_root(store, catalog_id, found.get("catalog_id"))
    return UUID(root_id)


def claim_root_anew(store: Store, *, catalog_id: UUID, incarnation: UUID) -> UUID:
    """Make a root a new catalog's, whosever it was, and return its new id; the catalog before it is fenced then.

    Without a marker, after a crash in between, the next start of a server on the new catalog makes one.
    """
    store.delete(MARKER_PATH)
    return claim_root(store, catalog_id=catalog_id, incarnation=incarnation, settled=None)


def check_root(store: Store, *, catalog_id: UUID, incarnation: UUID, settled: UUID | None) -> None:
    """Check like ``claim_root``, and change nothing; a catalog that has no root yet has nothing to check."""
    if settled is not None:
        claim_root(store, catalog_id=catalog_id, incarnation=incarnation, settled=settled)


def find_marker(store: Store) -> None:
    """Ask the storage anything; raises ``storage_unavailable``, also where it answers but has no marker any more."""
    if store.stat(MARKER_PATH) is None:
        raise error("storage_unavailable", "the storage has no marker; is its disk mounted?")


def foreign_root(store: Store, catalog_id: UUID, owner: object) -> TimestoreError:
    """Describe a root that is not the catalog's."""
    what = "has no marker of a catalog" if owner is None else f"belongs to catalog {owner}"
    if owner == str(catalog_id):
        what = "is not where this catalog has its files"
    return error(
        "fenced",
        f"the storage at {store.url('')} {what} (the catalog is {catalog_id}); check --catalog-dsn and --storage-url",
    )


def _marker(catalog_id: UUID, incarnation: UUID) -> dict[str, object]:
    """Return what a marker says beside the root's id."""
    return {"format": FORMAT_VERSION, "catalog_id": str(catalog_id), "incarnation": str(incarnation)}


def _read_marker(store: Store) -> dict[str, object]:
    """Return what the marker says; nothing if there is none, or none that Timestore wrote."""
    try:
        with store.open(MARKER_PATH) as file:
            marker = json.load(file)
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return marker if isinstance(marker, dict) else {}
