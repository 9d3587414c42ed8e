"""Handles and tickets of queries. They carry all that a server must know, so any server can answer them.

A prepared statement is its text, and the parameters bound last. A ticket adds the versions that the query was planned
at. Nothing in either is secret, signed or a path: whoever shows one is authorised, and all is resolved when used.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from timestore.descriptor import PROTOCOL_VERSION
from timestore.errors import error
from timestore.json_object import JsonObject, canonical_json
from timestore.names import parse_dataset_name
from timestore.reading import parse_incarnation

MAX_STATEMENT_BYTES = 768 << 10  # below what any JSON here may have, in a message around it


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedDataset:
    """A dataset's incarnation and version."""

    incarnation: UUID
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a statement gives, as long as the datasets that it reads are as they were when it was prepared."""

    schema: bytes  # as an Arrow IPC schema
    shapes: Mapping[str, str]  # by dataset: what changes when its columns do


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A query with what is bound to it, as a handle or ticket carries it."""

    query: str
    parameters: bytes | None = None  # rows of parameters, as an Arrow IPC stream
    described: Described | None = None  # of a prepared statement, to spare planning it again
    pinned: Mapping[str, PinnedDataset] | None = None  # by dataset; None until it is planned
    timeout_s: float | None = None

    def to_bytes(self) -> bytes:
        """Encode it as JSON; raises ``query_too_expensive`` if it takes too much."""
        fields: dict[str, object] = {"v": PROTOCOL_VERSION, "query": self.query}
        if self.parameters is not None:
            fields["parameters"] = base64.b64encode(self.parameters).decode()
        if self.described is not None:
            fields["schema"] = base64.b64encode(self.described.schema).decode()
            fields["shapes"] = dict(self.described.shapes)
        if self.pinned is not None:
            fields["pinned"] = {name: f"{each.incarnation}/{each.version}" for name, each in self.pinned.items()}
        if self.timeout_s is not None:
            fields["timeout_s"] = self.timeout_s
        encoded = canonical_json(fields).encode("utf-8", "surrogatepass")
        if len(encoded) > MAX_STATEMENT_BYTES:
            raise error(
                "query_too_expensive",
                f"the query takes {len(encoded)} bytes with its parameters, at most {MAX_STATEMENT_BYTES} are allowed",
                details={"limit": MAX_STATEMENT_BYTES, "actual": len(encoded)},
            )
        return encoded

    @classmethod
    def parse(cls, body: bytes) -> Statement:
        """Parse what ``to_bytes`` made; raises ``descriptor_invalid`` or ``name_invalid``."""
        fields = JsonObject.parse(body, what="statement handle")
        fields.version(PROTOCOL_VERSION)
        query, parameters = fields.required_text("query"), fields.text("parameters")
        schema, shapes = fields.text("schema"), fields.text_map("shapes")
        pinned = fields.text_map("pinned")
        timeout_s = fields.number("timeout_s")
        fields.finish()
        return cls(
            query=query,
            parameters=_decoded(parameters) if parameters is not None else None,
            described=Described(schema=_decoded(schema), shapes=shapes) if schema and shapes is not None else None,
            pinned={parse_dataset_name(name): _parse_pinned(text) for name, text in pinned.items()}
            if pinned is not None
            else None,
            timeout_s=timeout_s,
        )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise error("descriptor_invalid", "a part of the statement handle is not base64") from exc


def _parse_pinned(text: str) -> PinnedDataset:
    incarnation, _, version = text.partition("/")
    if not version.isdecimal() or not version.isascii() or len(version) > 18:
        raise error("descriptor_invalid", "a version in a statement handle is not a number")
    return PinnedDataset(incarnation=parse_incarnation(incarnation), version=int(version))
