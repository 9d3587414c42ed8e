"""JSON lines: one object a line. Types are those of JSON; times are texts that were said to be times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from timestore.client.payload import Payload
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.text_types import TextRules, parse_texts

CHUNK_LINES = 10_000
_TYPES: dict[frozenset[type], pa.DataType] = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({str}): pa.string(),
    frozenset(): pa.string(),
}


def open_json_lines(path: Path, *, rules: TextRules) -> Payload:
    """Open a file of JSON lines; raises ``CommandFailedError``."""
    seen: dict[str, set[type]] = {}
    for fields in _objects(path):
        for name, value in fields.items():
            kinds = seen.setdefault(name, set())
            if value is not None:
                kinds.add(type(value))
    if not seen:
        raise CommandFailedError(f"{path} has no row, so its columns are not known")
    schema = pa.schema([(name, rules.said_type(name) or _json_type(path, name, kinds)) for name, kinds in seen.items()])
    return Payload(schema, lambda: _batches(path, schema, rules), one_shot=False)


def _json_type(path: Path, name: str, kinds: set[type]) -> pa.DataType:
    type_ = _TYPES.get(frozenset(kinds))
    if type_ is None:
        found = sorted(kind.__name__ for kind in kinds)
        raise CommandFailedError(f"{path}: column {name!r} has values of the kinds {found}; only one is possible")
    return type_


def _batches(path: Path, schema: pa.Schema, rules: TextRules) -> Iterator[pa.RecordBatch]:
    objects = _objects(path)
    first = 0
    while chunk := list(islice(objects, CHUNK_LINES)):
        arrays = []
        for column in schema:
            try:
                arrays.append(_array([fields.get(column.name) for fields in chunk], column.type, rules))
            except (pa.ArrowException, OverflowError, TypeError) as exc:
                raise CommandFailedError(
                    f"{path}: a value of column {column.name!r} in the rows {first + 1} to {first + len(chunk)} is no "
                    f"{column.type}; see --type and --time-format ({exc})"
                ) from exc
        first += len(chunk)
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: list[Any], type_: pa.DataType, rules: TextRules) -> pa.Array:
    if not pa.types.is_timestamp(type_):
        return pa.array(values, type_)
    texts = [str(value) if isinstance(value, int) else value for value in values]  # epochs
    return parse_texts(pa.array(texts, pa.string()), type_, rules)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except ValueError as exc:
                raise CommandFailedError(f"{path}: line {number} is no JSON: {exc}") from exc
            if not isinstance(fields, dict):
                raise CommandFailedError(f"{path}: line {number} is no JSON object")
            yield fields
