"""What a storage form is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

Convert = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageForm:
    """One plain Arrow type's form in a file."""

    sql_type: str
    stored_type: pa.DataType  # the Arrow type that DuckDB takes for it
    to_storage: Convert
    from_storage: Convert  # takes what DuckDB gives


def unchanged(array: pa.Array) -> pa.Array:
    return array


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
