"""What a read asks for, and the tickets that a FlightInfo hands out.

A ticket names dataset, incarnation, version and a range of partitions. It is resolved when used; nothing in it is a
path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from timestore.descriptor import PROTOCOL_VERSION, parse_path
from timestore.errors import error
from timestore.json_object import JsonObject, canonical_json
from timestore.names import NO_KEY, PartitionKey, parse_dataset_name
from timestore.windows import format_instant, parse_instant

TICKET_LIFETIME = timedelta(hours=1)  # until then, what a ticket names is not deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows and columns of a dataset: all, unless a field says less."""

    key: PartitionKey = NO_KEY  # a subset of the key's parts that must match
    columns: tuple[str, ...] | None = None
    start: datetime | None = None  # of the timestamp column, included
    end: datetime | None = None  # not included
    with_key: bool = False  # add the key's parts as text columns

    @classmethod
    def from_json(cls, fields: JsonObject) -> Selection:
        """Take the fields of a selection; raises ``descriptor_invalid`` or ``name_invalid``."""
        columns = fields.texts("columns")
        if columns == []:
            raise error("descriptor_invalid", "columns is empty; name at least one column, or leave it out for all")
        if columns is not None and len(set(columns)) != len(columns):
            raise error("descriptor_invalid", "columns names a column twice")
        return replace(
            cls.from_filters(fields),
            columns=tuple(columns) if columns is not None else None,
            with_key=fields.flag("with_key"),
        )

    @classmethod
    def from_filters(cls, fields: JsonObject) -> Selection:
        """Take only what selects rows: ``key``, ``from`` and ``to``."""
        start, end = fields.text("from"), fields.text("to")
        return cls(
            key=PartitionKey.parse(fields.text_map("key") or {}),
            start=parse_instant(start) if start is not None else None,
            end=parse_instant(end) if end is not None else None,
        )

    def as_json(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "key": self.key.as_dict() or None,
            "columns": list(self.columns) if self.columns is not None else None,
            "from": format_instant(self.start) if self.start else None,
            "to": format_instant(self.end) if self.end else None,
            "with_key": self.with_key or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """Which version of a dataset: a number, the one that was current at an instant, or the newest."""

    version: int | None = None
    moment: datetime | None = None

    @classmethod
    def from_json(cls, fields: JsonObject) -> AsOf:
        """Take ``version`` or ``as_of``; both at once are refused."""
        version, moment = fields.integer("version"), fields.text("as_of")
        if version is not None and moment is not None:
            raise error("descriptor_invalid", "give either version or as_of, not both")
        return cls(version=version, moment=parse_instant(moment) if moment is not None else None)

    def as_json(self) -> dict[str, object]:
        if self.version is not None:
            return {"version": self.version}
        return {"as_of": format_instant(self.moment)} if self.moment else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDescriptor:
    """The parsed descriptor of a read."""

    dataset: str
    selection: Selection = Selection()
    as_of: AsOf = AsOf()

    @classmethod
    def parse_command(cls, command: bytes) -> ReadDescriptor:
        fields = JsonObject.parse(command, what="read descriptor")
        fields.version(PROTOCOL_VERSION)
        parsed = cls(
            dataset=parse_dataset_name(fields.required_text("dataset")),
            selection=Selection.from_json(fields),
            as_of=AsOf.from_json(fields),
        )
        fields.finish()
        return parsed

    @classmethod
    def parse_path(cls, path: Sequence[bytes]) -> ReadDescriptor:
        dataset, key = parse_path(path)
        return cls(dataset=dataset, selection=Selection(key=key))

    def to_command(self) -> bytes:
        fields = {"v": PROTOCOL_VERSION, "dataset": self.dataset}
        return canonical_json(fields | self.selection.as_json() | self.as_of.as_json()).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionPosition:
    """A place in the order of partitions: by window start, then by key."""

    window_start: datetime
    key: str  # the partition's key as canonical JSON

    def as_json(self) -> list[str]:
        return [format_instant(self.window_start), self.key]

    @classmethod
    def parse(cls, value: list[str] | None) -> PartitionPosition | None:
        if value is None:
            return None
        if len(value) != 2:
            raise error("descriptor_invalid", "a position in a ticket must be [window start, key]")
        return cls(window_start=parse_instant(value[0]), key=value[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A part of a dataset at a version: the partitions from ``first`` to ``last``, both included."""

    dataset: str
    incarnation: UUID
    version: int
    selection: Selection
    first: PartitionPosition | None = None
    last: PartitionPosition | None = None

    def to_bytes(self) -> bytes:
        fields: dict[str, object] = {
            "v": PROTOCOL_VERSION,
            "dataset": self.dataset,
            "incarnation": str(self.incarnation),
            "version": self.version,
            **self.selection.as_json(),
        }
        for name, position in (("first", self.first), ("last", self.last)):
            if position is not None:
                fields[name] = position.as_json()
        return canonical_json(fields).encode()

    @classmethod
    def parse(cls, body: bytes) -> Ticket:
        """Parse the bytes of a ticket; raises ``descriptor_invalid`` or ``name_invalid``."""
        fields = JsonObject.parse(body, what="ticket")
        fields.version(PROTOCOL_VERSION)
        version = fields.integer("version")
        if version is None:
            raise error("descriptor_invalid", "the ticket lacks the field 'version'")
        ticket = cls(
            dataset=parse_dataset_name(fields.required_text("dataset")),
            incarnation=parse_incarnation(fields.required_text("incarnation")),
            version=version,
            selection=Selection.from_json(fields),
            first=PartitionPosition.parse(fields.texts("first")),
            last=PartitionPosition.parse(fields.texts("last")),
        )
        fields.finish()
        return ticket


def parse_listing_criteria(criteria: bytes) -> str:
    """Read the criteria of ``list_flights``, empty or ``{v, prefix?}``; return what names must begin with."""
    if not criteria:
        return ""
    fields = JsonObject.parse(criteria, what="criteria")
    fields.version(PROTOCOL_VERSION)
    prefix = fields.text("prefix")
    fields.finish()
    return prefix or ""


def parse_incarnation(text: str) -> UUID:
    """Read the id of a dataset's incarnation in its one spelling; raises ``descriptor_invalid``."""
    try:
        parsed = UUID(text)
        if str(parsed) != text:
            raise ValueError("another spelling")
    except ValueError as exc:
        raise error("descriptor_invalid", f"{text[:60]!a} is not a UUID as tickets spell it") from exc
    return parsed
