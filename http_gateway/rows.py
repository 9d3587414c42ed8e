"""Rows of a request, on their way to a put: what all bodies become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one schema. The batches are read from the body as they are asked for; the last proves its end."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is known about rows whose bodies do not say their types."""

    dataset: pa.Schema | None  # None: the dataset does not exist yet
    timestamp_column: str | None  # as the request says
