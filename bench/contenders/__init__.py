"""Who is compared: Timestore, what the machine allows, and other systems.

A contender has a name, says how durable its rows are when its clock stops, and stores a load.
"""

from __future__ import annotations

from typing import Protocol

from bench.load import Load
from bench.measuring import Figures

TIMESTORE = "timestore"
FLIGHT_DROP = "Flight that drops"
DUCKDB_FILES = "DuckDB files"
DUCKDB_ENUM_FILES = "DuckDB files, texts as ENUM"
OUR_WRITERS = "our writers"
DISK = "disk"
RAW_UPLOAD = "raw upload"
POSTGRES_COMMITS = "Postgres commits"

FILE_CEILINGS = (DUCKDB_FILES, DUCKDB_ENUM_FILES)  # the fastest of them is the in-process ceiling


class Contender(Protocol):
    """Something that stores rows and is timed."""

    @property
    def name(self) -> str:
        """The name in reports."""

    @property
    def durability(self) -> str:
        """What a power cut right after the clock stops would leave."""

    def run(self, load: Load) -> Figures:
        """Store all rows of the load and check that they are there.

        Raises ``WrongResultError`` when they are not, and ``AbsentError`` when it cannot take part.
        """
