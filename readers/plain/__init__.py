"""Plain columns: the same values without an encoding.

Dictionaries, runs, views and extension types are ways to send values. Behind the door of writing, and up to the door of
reading, there are only plain columns, which every kernel of pyarrow can slice, take, filter, join and sort. How plain
columns are stored, ``readers.forms`` says.
"""

from readers.plain.decoding import plain_batch, take_batch
from readers.plain.encoding import encoded_batches
from readers.plain.reshaping import reshape
from readers.plain.types import has_dictionary, is_plain, plain_field, plain_schema, plain_type

__all__ = [
    "encoded_batches",
    "has_dictionary",
    "is_plain",
    "plain_batch",
    "plain_field",
    "plain_schema",
    "plain_type",
    "reshape",
    "take_batch",
]
