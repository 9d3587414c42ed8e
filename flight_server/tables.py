"""Tables as answers of actions: in pages, as JSON or as Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import pyarrow as pa

from timestore.errors import error
from timestore.json_object import JsonObject, canonical_json

PAGE_ITEMS = 500
PAGE_METADATA = b"page"  # of an Arrow schema: what a page has besides its items, as JSON

Results = Iterator[pa.Buffer]

Item = TypeVar("Item")


class Format(StrEnum):
    """How the pages of a table travel."""

    JSON = "json"
    ARROW = "arrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which pages of a table are wanted, and how."""

    cursor: list[str] | None  # where to go on; None from the beginning
    limit: int | None  # one page of at most so many items; None for all pages
    format: Format

    @classmethod
    def from_json(cls, fields: JsonObject) -> PageRequest:
        """Take the fields that every table has; raises ``descriptor_invalid``."""
        limit = fields.integer("limit", minimum=1)
        if limit is not None and limit > PAGE_ITEMS:
            raise error("descriptor_invalid", f"the limit is {limit}; one page has at most {PAGE_ITEMS} items")
        return cls(
            cursor=fields.texts("cursor"),
            limit=limit,
            format=Format(fields.choice("format", [str(each) for each in Format], "json")),
        )

    def cursor_of(self, length: int) -> list[str] | None:
        """Return the cursor, which must have so many parts; raises ``descriptor_invalid``."""
        if self.cursor is not None and len(self.cursor) != length:
            raise error("descriptor_invalid", "the cursor is not one that a page of this table gave as next")
        return self.cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Generic[Item]):
    """A table that can be read from any place on."""

    schema: pa.Schema  # of the items as Arrow
    fetch: Callable[[list[str], int], list[Item]]  # items after a cursor, at most so many
    start: list[str]  # the cursor before the first item
    render: Callable[[Item], dict[str, Any]]
    position: Callable[[Item], list[str]]  # the cursor after an item
    shared: Mapping[str, object]  # what each page has besides its items

    def pages(self, request: PageRequest) -> Results:
        """Yield the pages wanted, each as one result."""
        cursor: list[str] | None = self.start if request.cursor is None else request.cursor
        while cursor is not None:
            size = request.limit or PAGE_ITEMS
            found = self.fetch(cursor, size + 1)  # one more, to know whether this is the last page
            page = found[:size]
            cursor = self.position(page[-1]) if len(found) > size else None
            yield self._encode([self.render(item) for item in page], {"next": cursor, **self.shared}, request.format)
            if request.limit is not None:
                return

    def _encode(self, items: list[dict[str, Any]], rest: dict[str, object], format_: Format) -> pa.Buffer:
        if format_ is Format.JSON:
            return encode_json({"items": items, **rest})
        sink = pa.BufferOutputStream()
        schema = self.schema.with_metadata({PAGE_METADATA: canonical_json(rest).encode()})
        columns = [pa.array([_arrow_value(item[f.name], f.type) for item in items], f.type) for f in schema]
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        return sink.getvalue()


def encode_json(fields: Mapping[str, object]) -> pa.Buffer:
    """Encode one result as the JSON that travels."""
    return pa.py_buffer(canonical_json(fields).encode())


def _arrow_value(value: Any, type_: pa.DataType) -> Any:
    return list(value.items()) if pa.types.is_map(type_) else value
