"""What a request to write lines says, apart from its lines: the query of InfluxDB's API, and our two headers.

Bucket and database, organization and retention policy name places that are not here: they are read and not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from http_gateway.influx.parser import parse_precision
from timestore.names import parse_idempotency_key

KEY_TAGS_HEADER = "x-timestore-key-tags"
KEY_TAG_PARAMETER = "key_tag"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest:
    """A parsed request to write lines."""

    ns_per_unit: int
    encoding: str  # of the content; empty for none
    idempotency_key: str | None = None
    key_tags: tuple[str, ...] | None = (
        None  # tags that make the key of a dataset that does not exist; None: it says not
    )


def parse_write(*, precision: str, key_tags: Sequence[str], headers: Mapping[str, str]) -> WriteRequest:
    """Parse a request; raises ``descriptor_invalid`` or ``name_invalid``. ``key_tags`` is what the query says."""
    listed = [name.strip() for name in headers.get(KEY_TAGS_HEADER, "").split(",")]
    names = tuple(name for name in (*key_tags, *listed) if name)
    key = headers.get("idempotency-key")
    return WriteRequest(
        ns_per_unit=parse_precision(precision or "ns"),
        encoding=headers.get("content-encoding", ""),
        idempotency_key=parse_idempotency_key(key) if key is not None else None,
        key_tags=tuple(sorted(set(names))) if names else None,
    )
