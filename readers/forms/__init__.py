"""How each plain Arrow type is stored in a DuckDB file, and how it comes back bit for bit.

A type without a form is refused by name before any data is sent: see ``readers.forms.refusals``.
"""

from __future__ import annotations

import pyarrow as pa

from readers.forms.flat import flat_form
from readers.forms.form import StorageForm
from readers.forms.nested import nested_form
from readers.plain import plain_type
from readers.plain.types import NESTED

__all__ = ["StorageForm", "storage_form"]


def storage_form(type_: pa.DataType) -> StorageForm | None:
    """Return how a type is stored once it is plain; None if it is not."""
    plain = plain_type(type_)
    return nested_form(plain, storage_form) if plain.id in NESTED else flat_form(plain)
