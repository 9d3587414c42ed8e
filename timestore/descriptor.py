"""What a put says about itself, and two of its spellings: JSON in CMD, or PATH with headers.

The third is in ``timestore.flight_sql``. A header and a body that differ are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from timestore.datasets import CreateOptions
from timestore.errors import TimestoreError, error
from timestore.json_object import JsonObject, canonical_json
from timestore.names import NO_KEY, PartitionKey, parse_dataset_name, parse_idempotency_key

PROTOCOL_VERSION = 1
IDEMPOTENCY_HEADER = "x-idempotency-key"
EXPECTED_ROWS_HEADER = "x-timestore-expected-rows"
END_HEADER = "x-timestore-end"
KEY_HEADER = "x-timestore-key"


class EndRule(StrEnum):
    """How a stream says that it is complete."""

    MARKER = "marker"  # a last metadata-only message {"end": true, "rows": n}
    EOF = "eof"  # its end is trusted: the client accepts the risk of a silent cut


class Target(StrEnum):
    """Which dataset a put expects to find. Only Flight SQL can ask for other than any."""

    ANY = "any"  # it is created if it is not there
    EXISTING = "existing"  # it must be there
    NEW = "new"  # it must not be there


class Landing(StrEnum):
    """The form in which a put's rows are first published."""

    AUTO = "auto"
    FILE = "file"
    INLINE = "inline"
    ARROW = "arrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class PutDescriptor:
    """The parsed descriptor of a put."""

    dataset: str
    key: PartitionKey = NO_KEY
    idempotency_key: str | None = None
    end: EndRule = EndRule.MARKER
    expected_rows: int | None = None
    fingerprint: str | None = None
    landing: Landing = Landing.AUTO
    create: CreateOptions | None = None
    target: Target = Target.ANY  # has no field in the JSON
    typed_by_dataset: bool = False  # no field either: the rows came without types, and got those the dataset had then

    def to_command(self) -> bytes:
        """Encode as the JSON that goes into a descriptor's CMD."""
        fields: dict[str, object] = {
            "v": PROTOCOL_VERSION,
            "dataset": self.dataset,
            "key": self.key.as_dict() or None,
            "idempotency_key": self.idempotency_key,
            "end": str(self.end) if self.end is not EndRule.MARKER else None,
            "expected_rows": self.expected_rows,
            "fingerprint": self.fingerprint,
            "landing": str(self.landing) if self.landing is not Landing.AUTO else None,
            "create": self.create.as_json() if self.create else None,
        }
        return canonical_json({name: value for name, value in fields.items() if value is not None}).encode()


def parse_put_command(command: bytes, headers: Mapping[str, str]) -> PutDescriptor:
    """Parse the JSON of a CMD descriptor, then the headers beside it.

    Raises ``descriptor_invalid`` or ``name_invalid``.
    """
    fields = JsonObject.parse(command, what="put descriptor")
    fields.version(PROTOCOL_VERSION)
    idempotency_key = fields.text("idempotency_key")
    end_given = fields.text("end")
    options = fields.child("create")
    body = PutDescriptor(
        dataset=parse_dataset_name(fields.required_text("dataset")),
        key=PartitionKey.parse(fields.text_map("key") or {}),
        idempotency_key=parse_idempotency_key(idempotency_key) if idempotency_key is not None else None,
        end=_end_rule(end_given),
        expected_rows=fields.integer("expected_rows"),
        fingerprint=fields.text("fingerprint"),
        landing=Landing(fields.choice("landing", [str(form) for form in Landing], "auto")),
        create=CreateOptions.from_json(options) if options else None,
    )
    fields.finish()
    if options:
        options.finish()
    return with_headers(body, headers, end_given=end_given is not None)


def parse_put_path(path: Sequence[bytes], headers: Mapping[str, str]) -> PutDescriptor:
    """Parse a PATH descriptor, ``["cpu", "region=eu"]``, with its headers; raises like ``parse_put_command``."""
    dataset, key = parse_path(path)
    return with_headers(PutDescriptor(dataset=dataset, key=key), headers, end_given=False)


def parse_path(path: Sequence[bytes]) -> tuple[str, PartitionKey]:
    """Split a descriptor's path into a dataset name and a key."""
    if not path:
        raise _invalid("the descriptor has neither a command nor a path; name a dataset")
    try:
        name, *parts = [part.decode("utf-8") for part in path]
    except UnicodeDecodeError as exc:
        raise _invalid("the descriptor's path is not valid UTF-8") from exc
    values: dict[str, str] = {}
    for part in parts:
        key_name, equals, value = part.partition("=")
        if not equals or key_name in values:
            raise _invalid(f"the path part {part[:200]!a} must be name=value, each name once")
        values[key_name] = value
    return parse_dataset_name(name), PartitionKey.parse(values)


def with_headers(body: PutDescriptor, headers: Mapping[str, str], *, end_given: bool) -> PutDescriptor:
    """Merge what the headers say; raises ``descriptor_invalid`` if one contradicts the body, and like the parsers.

    ``end_given`` says whether the body itself said how the stream ends.
    """
    merged = body
    if (text := headers.get(IDEMPOTENCY_HEADER)) is not None:
        _agree(IDEMPOTENCY_HEADER, body.idempotency_key, text)
        merged = replace(merged, idempotency_key=parse_idempotency_key(text))
    if (text := headers.get(EXPECTED_ROWS_HEADER)) is not None:
        rows = _row_count(text)
        _agree(EXPECTED_ROWS_HEADER, body.expected_rows, rows)
        merged = replace(merged, expected_rows=rows)
    if (text := headers.get(END_HEADER)) is not None:
        end = _end_rule(text)
        _agree(END_HEADER, body.end if end_given else None, end)
        merged = replace(merged, end=end)
    if (text := headers.get(KEY_HEADER)) is not None:
        key = PartitionKey.parse(JsonObject.parse(text.encode(), what=f"header {KEY_HEADER}").all_texts())
        _agree(KEY_HEADER, body.key if body.key.parts else None, key)
        merged = replace(merged, key=key)
    return merged


def _agree(header: str, body_value: object, header_value: object) -> None:
    if body_value is not None and body_value != header_value:
        raise _invalid(f"the header {header} and the descriptor differ; send one of them, or the same value")


def _end_rule(text: str | None) -> EndRule:
    if text is None:
        return EndRule.MARKER
    if text not in (allowed := [str(rule) for rule in EndRule]):
        raise _invalid(f"the end rule {text[:40]!r} is not one of {allowed}")
    return EndRule(text)


def _row_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _invalid(f"the header {EXPECTED_ROWS_HEADER} must be a row count, not {text[:40]!a}")
    return int(text)


def _invalid(message: str) -> TimestoreError:
    return error("descriptor_invalid", message)
