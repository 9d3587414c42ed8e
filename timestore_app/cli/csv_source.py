"""CSV: read once to decide the types, then to send the rows; in blocks, so that a large file needs little memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from timestore.client.payload import Payload
from timestore_app.cli.group import CommandFailedError
from timestore_app.cli.text_types import TextRules, TypeGuess, first_failure, means_null, parse_texts

BLOCK_BYTES = 4 << 20  # a line must fit into it


def open_csv(path: Path, *, delimiter: str, rules: TextRules) -> Payload:
    """Open a CSV file with a header line; raises ``CommandFailedError`` or ``pa.ArrowException``."""
    texts = _Texts(path, delimiter)
    if unknown := sorted(set(rules.types) - set(texts.names)):
        raise CommandFailedError(f"{path} has no column {unknown[0]!r}; it has {texts.names}")
    schema = pa.schema(list(zip(texts.names, _types(texts, rules), strict=True)))
    return Payload(schema, lambda: _batches(texts, schema, rules), one_shot=False)


class _Texts:
    """A CSV file as batches of text."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path = path
        self._parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        with self._open({}) as reader:
            self.names: list[str] = reader.schema.names
        if len(set(self.names)) != len(self.names):
            raise CommandFailedError(f"{path} has a column twice: {self.names}")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with self._open(dict.fromkeys(self.names, pa.string())) as reader:
            yield from reader

    def _open(self, types: dict[str, pa.DataType]) -> csv.CSVStreamingReader:
        return csv.open_csv(
            self.path,
            read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=self._parse,
            convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )


def _types(texts: _Texts, rules: TextRules) -> list[pa.DataType]:
    said = [rules.said_type(name) for name in texts.names]
    guesses = {place: TypeGuess() for place, type_ in enumerate(said) if type_ is None}
    if guesses:
        for batch in texts:
            for place, guess in guesses.items():
                values = batch.column(place)
                guess.look(values.filter(pc.invert(means_null(values, rules, None))))
    return [type_ if type_ is not None else guesses[place].type() for place, type_ in enumerate(said)]


def _batches(texts: _Texts, schema: pa.Schema, rules: TextRules) -> Iterator[pa.RecordBatch]:
    row = 0
    for batch in texts:
        arrays = []
        for values, column in zip(batch.columns, schema, strict=True):
            known = pc.if_else(means_null(values, rules, column.type), pa.scalar(None, pa.string()), values)
            try:
                arrays.append(parse_texts(known, column.type, rules))
            except pa.ArrowException as exc:
                place, text = first_failure(known, column.type, rules)
                raise CommandFailedError(
                    f"{texts.path}: row {row + place + 1} has {text!r} in column {column.name!r}, which is no "
                    f"{column.type}; see --type, --time-format and --null"
                ) from exc
        row += batch.num_rows
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
