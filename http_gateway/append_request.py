"""What a request to append says, apart from its rows: parsed once, before its body is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from timestore.datasets import CreateOptions
from timestore.descriptor import EndRule, PutDescriptor
from timestore.errors import TimestoreError, error
from timestore.json_object import JsonObject
from timestore.names import PartitionKey, parse_dataset_name, parse_idempotency_key


class BodyFormat(Enum):
    """What a body is, by its ``Content-Type``."""

    ARROW = ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file")
    PARQUET = ("application/vnd.apache.parquet", "application/parquet", "application/x-parquet")
    NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
    JSON = ("application/json",)
    CSV = ("text/csv", "application/csv")

    @classmethod
    def of(cls, content_type: str) -> BodyFormat:
        """Return the format that a header names; raises ``UnknownFormatError``."""
        name = content_type.partition(";")[0].strip().lower()
        for each in cls:
            if name in each.value:
                return each
        raise UnknownFormatError(content_type)


class UnknownFormatError(Exception):
    """A ``Content-Type`` that is none of ``BodyFormat``; HTTP has a status of its own for it."""

    def __init__(self, content_type: str) -> None:
        super().__init__(content_type)
        known = ", ".join(each.value[0] for each in BodyFormat)
        self.failure: TimestoreError = error(
            "unsupported",
            f"the Content-Type {content_type[:80]!a} says nothing about rows; send one of {known}",
            details={"content_type": content_type},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendRequest:
    """A parsed request to append."""

    descriptor: PutDescriptor
    format: BodyFormat
    encoding: str  # of the content; empty for none
    timestamp_column: str | None


def parse_key(parts: Sequence[str]) -> PartitionKey:
    """Parse the parts of a semantic key, ``region=eu`` each; raises ``descriptor_invalid`` or ``name_invalid``."""
    values: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or name in values:
            raise error("descriptor_invalid", f"key={part[:200]!a} must be key=name=value, each name once")
        values[name] = value
    return PartitionKey.parse(values)


def parse_append(
    *,
    dataset: str,
    key: Sequence[str],
    idempotency_key: str | None,
    expected_rows: int | None,
    create: Mapping[str, object],
    headers: Mapping[str, str],
) -> AppendRequest:
    """Parse a request; raises ``UnknownFormatError``, ``descriptor_invalid`` or ``name_invalid``."""
    format_ = BodyFormat.of(headers.get("content-type", ""))
    said = {name: value for name, value in create.items() if value is not None}
    descriptor = PutDescriptor(
        dataset=parse_dataset_name(dataset),
        key=parse_key(key),
        idempotency_key=parse_idempotency_key(idempotency_key) if idempotency_key is not None else None,
        end=EndRule.EOF,  # HTTP says where a body ends, and the parsers see to it that it ended there
        expected_rows=expected_rows,
        create=CreateOptions.from_json(JsonObject(said, what="query")) if said else None,
        typed_by_dataset=format_ in (BodyFormat.NDJSON, BodyFormat.JSON, BodyFormat.CSV),
    )
    timestamp_column = descriptor.create.timestamp_column if descriptor.create is not None else None
    encoding = headers.get("content-encoding", "")
    return AppendRequest(descriptor=descriptor, format=format_, encoding=encoding, timestamp_column=timestamp_column)
