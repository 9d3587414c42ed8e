"""Timestore: Arrow streams in, exactly once, into immutable DuckDB partition files.

This package is the contract that clients and servers share, and the client: ``timestore.connect(url)``.
"""

from __future__ import annotations

from importlib.metadata import version

from timestore.client import Append, AppendResult, AsyncClient, Client, Progress, connect, connect_async
from timestore.errors import TimestoreError
from timestore.receipt import Receipt

__version__ = version("timestore")
__all__ = [
    "Append",
    "AppendResult",
    "AsyncClient",
    "Client",
    "Progress",
    "Receipt",
    "TimestoreError",
    "__version__",
    "connect",
    "connect_async",
]
