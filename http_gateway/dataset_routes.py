"""Datasets: what there is, what they are, and what became of appends."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from access.grants import Permission
from access.principal import Principal
from catalog.manifests import Manifests, SliceCursor
from http_gateway.answers import json_answer
from http_gateway.append_request import parse_key
from http_gateway.callers import caller_of
from http_gateway.documents import DatasetDocument, DatasetPage, HistoryPage, ManifestPage, Receipt
from http_gateway.paging import PAGE_ITEMS, Cursor, Limit, decode_cursor, integer_of, page
from http_gateway.selecting import AsOfTime, From, Keys, To, Version, parse_as_of, parse_selection
from readers.items import dataset_item, history_item, manifest_item
from readers.receipts import find_receipt
from readers.visible import KNOW, VisibleDatasets
from storage.targets import Targets
from timestore.names import parse_dataset_name, parse_idempotency_key
from timestore.reading import AsOf, Selection, parse_incarnation

_MANIFEST_CURSOR_PARTS = 2 + len(SliceCursor().as_texts())  # incarnation and version come first

Name = Annotated[str, Path(description="The dataset's name.")]


def dataset_routes(manifests: Manifests, targets: Targets) -> APIRouter:
    """Return the routes that tell of datasets."""
    router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
    visible = VisibleDatasets(manifests=manifests)
    tables = _Tables(manifests, visible, targets)

    @router.get("", summary="List the datasets, by name", response_model=DatasetPage)
    def list_datasets(
        request: Request,
        prefix: Annotated[str, Query(description="What the names begin with.")] = "",
        limit: Limit = PAGE_ITEMS,
        cursor: Cursor = None,
    ) -> Response:
        [after] = decode_cursor(cursor, length=1) or [""]
        found = visible.datasets(caller_of(request), after=after, limit=limit + 1, prefix=prefix)
        return json_answer(page(found, limit, render=dataset_item, position=lambda each: [each.spec.name]))

    @router.get("/{dataset}", summary="Describe a dataset", response_model=DatasetDocument)
    def describe_dataset(request: Request, dataset: Name) -> Response:
        found = visible.dataset(parse_dataset_name(dataset), caller_of(request), *KNOW)
        return json_answer(dataset_item(found))

    @router.get("/{dataset}/manifest", summary="List what is visible at a version", response_model=ManifestPage)
    def read_manifest(
        request: Request,
        dataset: Name,
        version: Version = None,
        as_of: AsOfTime = None,
        key: Keys = None,
        start: From = None,
        end: To = None,
        limit: Limit = PAGE_ITEMS,
        cursor: Cursor = None,
    ) -> Response:
        """List data files with their keys, windows and rows; all pages are of the version that the first was of."""
        wanted = parse_as_of(version, as_of)
        selection = parse_selection(key=parse_key(key or []), start=start, end=end)
        principal = caller_of(request)
        return json_answer(tables.manifest(parse_dataset_name(dataset), principal, wanted, selection, limit, cursor))

    @router.get("/{dataset}/history", summary="List a dataset's commits, newest first", response_model=HistoryPage)
    def read_history(request: Request, dataset: Name, limit: Limit = PAGE_ITEMS, cursor: Cursor = None) -> Response:
        found = visible.dataset(parse_dataset_name(dataset), caller_of(request), Permission.READ)
        parts = decode_cursor(cursor, length=1)
        before = integer_of(parts[0]) if parts is not None else found.version + 1
        commits = manifests.history(found, before=before, limit=limit + 1)
        return json_answer(page(commits, limit, render=history_item, position=lambda each: [str(each.version)]))

    @router.get(
        "/{dataset}/receipts/{idempotency_key:path}", summary="Say what became of an append", response_model=Receipt
    )
    def read_receipt(request: Request, dataset: Name, idempotency_key: str) -> Response:
        """Return the receipt that the append got; not found means that nothing has committed yet."""
        found = visible.dataset(parse_dataset_name(dataset), caller_of(request), *KNOW)
        return json_answer(find_receipt(manifests, found, parse_idempotency_key(idempotency_key)).as_json())

    return router


class _Tables:
    """Reads the tables that need more than one look at the catalog."""

    def __init__(self, manifests: Manifests, visible: VisibleDatasets, targets: Targets) -> None:
        self._manifests = manifests
        self._visible = visible
        self._targets = targets

    def manifest(
        self, name: str, principal: Principal, as_of: AsOf, selection: Selection, limit: int, cursor: str | None
    ) -> dict[str, Any]:
        parts = decode_cursor(cursor, length=_MANIFEST_CURSOR_PARTS)
        pinned_at = (parse_incarnation(parts[0]), integer_of(parts[1])) if parts is not None else None
        dataset, version = self._visible.pinned(name, as_of, pinned_at, principal)
        place = SliceCursor.from_texts(parts[2:]) if parts is not None else SliceCursor()
        found = self._manifests.slices(dataset, version, selection, cursor=place, limit=limit + 1)
        pinned = [str(dataset.spec.incarnation), str(version)]
        items = page(
            found,
            limit,
            render=lambda item: manifest_item(item, self._targets),
            position=lambda item: [*pinned, *SliceCursor.after(item).as_texts()],
        )
        return {"version": version, **items}
