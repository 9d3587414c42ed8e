"""The actions about storage targets: add, list and test them."""

from __future__ import annotations

from typing import Any

from access.principal import Principal
from flight_server.tables import Results, encode_json
from storage.probe import ProbeStep
from timestore.errors import error
from timestore.json_object import JsonObject
from timestore.storage_target import (
    DEFAULT_STORAGE,
    StorageTarget,
    parse_storage_name,
    parse_storage_options,
    parse_storage_url,
)
from writers.storage_setup import ListedTarget, StorageSetup

ADD_HELP = "Add a storage target for datasets to be created in. Body: {v, storage, url, options}."
LIST_HELP = "List the storage targets, each as this server sees it now. Body: {v}."
TEST_HELP = (
    "Try what a storage target, or a place that is none yet, lets this server do. Body: {v, storage | url, options}."
)


class StorageActions:
    """Parses, calls and answers."""

    def __init__(self, setup: StorageSetup) -> None:
        self._setup = setup

    def add(self, fields: JsonObject, principal: Principal) -> Results:
        target = StorageTarget.parse(
            name=fields.required_text("storage"),
            url=fields.required_text("url"),
            options=fields.text_map("options") or {},
        )
        fields.finish()
        added = self._setup.add(target, principal)
        yield encode_json({"storage": target.name, "url": target.url, "options": dict(target.options), "added": added})

    def list(self, fields: JsonObject, principal: Principal) -> Results:
        fields.finish()
        yield encode_json({"items": [_item(target) for target in self._setup.listing(principal)], "next": None})

    def test(self, fields: JsonObject, principal: Principal) -> Results:
        name, url = fields.text("storage"), fields.text("url")
        options = parse_storage_options(fields.text_map("options") or {})
        fields.finish()
        if (name is None) == (url is None) or (options and url is None):
            raise error("descriptor_invalid", "say either storage, or url with options")
        if url is not None:
            place = parse_storage_url(url)
            steps = self._setup.test_place(place, options, principal)
            yield encode_json(_tested({"storage": None, "url": place}, steps))
        elif name is not None:
            known = name if name == DEFAULT_STORAGE else parse_storage_name(name)
            yield encode_json(_tested({"storage": known, "url": None}, self._setup.test(known, principal)))


def _item(target: ListedTarget) -> dict[str, Any]:
    return {
        "storage": target.name,
        "url": target.url,
        "options": dict(target.options),
        "datasets": target.use.datasets,
        "slices": target.use.slices,
        "bytes": target.use.bytes,
        "state": target.trouble.kind if target.trouble else "ok",
        "reason": target.trouble.message if target.trouble else None,
    }


def _tested(what: dict[str, Any], steps: list[ProbeStep]) -> dict[str, Any]:
    return what | {"ok": all(step.ok for step in steps), "steps": [step.as_json() for step in steps]}
