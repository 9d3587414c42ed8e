"""ADBC's own driver validation suite, against a running server; it is no part of the test run.

    python -m pytest -p adbc_drivers_validation.tests.conftest --noconftest tests/adbc_validation/validate.py

The suite (github.com/adbc-drivers/validation) is not on PyPI, and needs a Python of its own. What comes out of it is
written down in ``docs/reference/flight-sql.md``. ``TIMESTORE_URL`` says where the server is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import adbc_driver_flightsql
import pytest
from adbc_drivers_validation import model, quirks
from adbc_drivers_validation.tests import connection as connection_cases
from adbc_drivers_validation.tests import ingest as ingest_cases
from adbc_drivers_validation.tests import query as query_cases
from adbc_drivers_validation.tests import statement as statement_cases
from adbc_drivers_validation.tests.connection import TestConnection  # noqa: F401
from adbc_drivers_validation.tests.ingest import TestIngest  # noqa: F401
from adbc_drivers_validation.tests.query import TestQuery  # noqa: F401
from adbc_drivers_validation.tests.statement import TestStatement  # noqa: F401

import timestore
from tests.adbc_validation.tables import Connection, connect
from timestore.flight_sql import CATALOG, SCHEMA

CASES = {
    "TestConnection": connection_cases,
    "TestIngest": ingest_cases,
    "TestQuery": query_cases,
    "TestStatement": statement_cases,
}


class Timestore(model.DriverQuirks):
    """What Timestore and the driver of Flight SQL can do, for the suite."""

    name = "timestore"
    driver = "adbc_driver_flightsql"
    driver_name = "ADBC Flight SQL Driver - Go"
    vendor_name = "Timestore"
    vendor_version = timestore.__version__
    short_version = timestore.__version__
    setup = model.DriverSetup()
    features = model.DriverFeatures(
        connection_get_table_schema=True,
        get_objects=True,
        statement_bind=True,
        statement_bulk_ingest=True,
        statement_execute_schema=True,
        statement_get_parameter_schema=True,
        statement_prepare=True,
        statement_rows_affected=True,
        current_catalog=CATALOG,
        current_schema=SCHEMA,
        quirk_foundry=False,
    )

    @property
    def queries_paths(self) -> tuple[Path, ...]:
        """Return where the types are that differ from the suite's own."""
        return (Path(__file__).parent / "queries",)

    def split_statement(self, statement: str) -> list[str]:
        """Return one statement after the other."""
        statements: list[str] = quirks.split_statement(re.sub(r";\s*--.*", ";", statement))
        return statements

    def is_table_not_found(self, table_name: str | None, error: Exception) -> bool:
        """Say whether a dataset is not there."""
        return "[dataset_not_found]" in str(error)


@pytest.fixture(name="driver", scope="module")
def _driver(request: pytest.FixtureRequest) -> Timestore:
    return Timestore()


@pytest.fixture(name="conn_factory", scope="module")
def _conn_factory() -> Iterator[Callable[[], Connection]]:
    url = os.environ.get("TIMESTORE_URL", "grpc://127.0.0.1:8815")
    driver = adbc_driver_flightsql._driver_path()
    with timestore.connect(url) as client:
        yield lambda: connect(driver, url.replace("grpc://", "grpc+tcp://"), client)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have the suite make its cases."""
    if metafunc.cls is not None:
        CASES[metafunc.cls.__name__].generate_tests([Timestore()], metafunc)
