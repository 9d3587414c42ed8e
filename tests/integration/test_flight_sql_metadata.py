"""What Flight SQL says of datasets and of the server, to tools that ask before they query."""

from __future__ import annotations

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow.flight as flight
import pytest

import timestore
from readers.sql_info import SQL_INFO
from readers.sql_metadata import BATCH_BYTES
from tests.fixtures.flight_sql import any_command, field
from tests.fixtures.sql_reading import (
    SENT,
    sql_info,
    sql_read,
    sql_rows,
)
from timestore.flight_sql import encode


def test_the_key_is_columns(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """The parts of the key are columns of the table, for queries and for metadata."""
    client.append("cpu", SENT, key={"region": "eu"})
    assert sql_rows(adbc, "SELECT DISTINCT region FROM cpu").to_pylist() == [{"region": "eu"}]
    assert adbc.adbc_get_table_schema("cpu").names == [*SENT.column_names, "region"]


def test_tables_are_found(client: timestore.Client, adbc: flight_sql.Connection) -> None:
    """Metadata has each dataset with its columns, in one catalog and one schema; filters are patterns."""
    for name in ("cpu_1", "cpux1", "mem"):
        client.append(name, SENT)

    [catalog] = adbc.adbc_get_objects(depth="all").read_all().to_pylist()
    [schema] = catalog["catalog_db_schemas"]
    assert (catalog["catalog_name"], schema["db_schema_name"]) == ("timestore", "main")
    tables = {each["table_name"]: each for each in schema["db_schema_tables"]}
    assert list(tables) == ["cpu_1", "cpux1", "mem"]
    assert [each["column_name"] for each in tables["mem"]["table_columns"]] == SENT.column_names
    assert {each["table_type"] for each in tables.values()} == {"TABLE"}

    def found(**filters: str) -> list[str]:
        answer = adbc.adbc_get_objects(depth="tables", **filters).read_all().to_pylist()  # type: ignore[arg-type]
        every = [schema for catalog in answer for schema in catalog["catalog_db_schemas"] or []]
        return [table["table_name"] for schema in every for table in schema["db_schema_tables"] or []]

    assert found(table_name_filter="CPU%") == ["cpu_1", "cpux1"]
    assert found(table_name_filter=r"cpu\_1") == ["cpu_1"]
    assert found(db_schema_filter="m_in") == ["cpu_1", "cpux1", "mem"]
    assert found(db_schema_filter="other") == []
    assert found(catalog_filter="other") == []
    assert found(catalog_filter="") == []
    assert adbc.adbc_get_table_types() == ["TABLE"]
    assert (adbc.adbc_current_catalog, adbc.adbc_current_db_schema) == ("timestore", "main")
    assert adbc.adbc_get_table_schema("cpu_1").equals(SENT.schema)
    assert adbc.adbc_get_table_schema("mem", catalog_filter="timestore", db_schema_filter="main").equals(SENT.schema)
    with pytest.raises(adbc_driver_manager.Error, match="NOT_FOUND"):
        adbc.adbc_get_table_schema("absent")


@pytest.mark.parametrize("table", ["cpu", "a" * 100, "a-b_c"])
def test_patterns_end(client: timestore.Client, raw: flight.FlightClient, table: str) -> None:
    """A pattern finds what it fits, wherever its pieces are; one that could fit in very many ways takes no time."""
    client.append(table, SENT)

    def found(pattern: str) -> bool:
        command = encode("CommandGetTables", wrapped=True, table_name_filter_pattern=pattern)
        return bool(sql_read(raw, command).num_rows == 1)

    assert found("%")
    assert found(f"%{table}%%")
    assert found(f"{table[0]}%_{table[-1].upper()}")
    assert found("%_" * len(table))
    assert not found("%_" * (len(table) + 1))
    assert not found("%a" * 30 + "%!")
    assert not found("%_" * 30 + "!")


def test_what_the_server_says_of_itself(adbc: flight_sql.Connection, raw: flight.FlightClient) -> None:
    """It only reads by SQL, takes bulk ingest, and has no transactions. JDBC asks for everything at once."""
    info = adbc.adbc_get_info()
    assert (info["vendor_name"], info["vendor_version"]) == ("Timestore", timestore.__version__)

    everything = sql_read(raw, encode("CommandGetSqlInfo", wrapped=True))
    assert dict(zip(*(column.to_pylist() for column in everything.columns), strict=True)) == {
        number: value for number, (_, value) in SQL_INFO.items()
    }
    some = sql_read(raw, encode("CommandGetSqlInfo", wrapped=True, info=[3, 8, 10, 999]))
    assert some.to_pylist() == [
        {"info_name": 3, "value": True},
        {"info_name": 8, "value": 0},
        {"info_name": 10, "value": True},
    ]


def test_sessions_are_closed(raw: flight.FlightClient) -> None:
    """A client that closes its session hears that it is closed; nothing changes for others on the connection."""
    for _ in range(2):
        [closed] = raw.do_action("CloseSession")
        assert closed.body.to_pybytes() == b"\x08\x01"  # CLOSED


EMPTY = ["CommandGetPrimaryKeys", "CommandGetExportedKeys", "CommandGetImportedKeys", "CommandGetCrossReference"]


def test_there_are_no_keys(raw: flight.FlightClient) -> None:
    """What drivers ask besides is answered: tables have no primary and no foreign keys, and there are types."""
    for name in EMPTY:
        command = any_command(name, field(3, b"cpu"))
        answer = sql_read(raw, command)
        assert answer.num_rows == 0
        assert raw.get_schema(flight.FlightDescriptor.for_command(command)).schema == answer.schema
    types = sql_read(raw, encode("CommandGetXdbcTypeInfo", wrapped=True))
    assert types.column("data_type").to_pylist() == sorted(types.column("data_type").to_pylist())
    [timestamp] = sql_read(raw, encode("CommandGetXdbcTypeInfo", wrapped=True, data_type=93)).to_pylist()
    assert timestamp["type_name"] == "TIMESTAMP"


def test_large_listings_come_in_messages_of_bounded_size(client: timestore.Client, raw: flight.FlightClient) -> None:
    """Schemas of a megabyte each are cut into messages that every client takes."""
    metadata = {"note": "x" * 900_000}
    for number in range(6):
        client.append(f"d{number}", SENT.slice(0, 1).replace_schema_metadata(metadata))
    command = encode("CommandGetTables", wrapped=True, include_schema=True)
    reader = raw.do_get(sql_info(raw, command).endpoints[0].ticket)
    sizes = [chunk.data.nbytes for chunk in reader]
    assert len(sizes) > 1
    assert max(sizes) < 2 * BATCH_BYTES
