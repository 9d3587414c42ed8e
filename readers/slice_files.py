"""Which stored file has the rows of a slice."""

from __future__ import annotations

from catalog.records import VisibleSlice
from storage.local_files import FileToRead
from timestore.errors import error


def file_of(item: VisibleSlice) -> FileToRead:
    """Return the data file that has a slice's rows; raises ``unsupported``."""
    if item.storage is None or item.path is None:
        raise error("unsupported", f"rows that landed as {item.form} cannot be read yet")
    return FileToRead(storage=item.storage, path=item.path, bytes=item.bytes, checksum=item.checksum)
