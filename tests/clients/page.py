"""`docs/reference/clients.md`: which client can do what, written from what tests have shown."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"
Cell = tuple[str, str]  # of a client and a capability

CAPABILITIES = (
    "bulk put",
    "replay",
    "conflict",
    "refused schema",
    "nested types",
    "dictionaries",
    "killed client leaves nothing",
    "reads",
    "SQL",
    "TLS and token",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A row of the table."""

    name: str  # as in the marks of tests
    shown: str
    note: str = ""


CLIENTS = (
    Client(name="timestore", shown="Python: [our client](client.md)"),
    Client(name="pandas", shown="[pandas](../how-to/pandas-and-polars.md), through our client"),
    Client(name="polars", shown="[polars](../how-to/pandas-and-polars.md), through our client"),
    Client(name="DuckDB", shown="[DuckDB](../how-to/duckdb.md), on the data files"),
    Client(name="pyarrow.flight", shown="Python: pyarrow.flight"),
    Client(
        name="ADBC",
        shown="ADBC's Flight SQL driver, from Python",
        note="The driver is ADBC's one in Go, for every language that loads it. It answers with a number of rows; the "
        "receipt can be [asked for](actions.md#receipt). A conflict is told by its kind in the details of the error.",
    ),
    Client(name="Go", shown="Go: Flight of arrow-go"),
    Client(
        name="Go, Flight SQL",
        shown="Go: Flight SQL of arrow-go",
        note="`ExecuteIngest`, which ADBC's driver calls too.",
    ),
    Client(
        name="Go, ADBC",
        shown="Go: ADBC's Flight SQL driver",
        note="The package `driver/flightsql` of ADBC's Go module. It answers as it does from Python.",
    ),
    Client(
        name="Java",
        shown="Java: flight-core",
        note="It sends dictionaries with the schema and never again: the dictionaries of a stream must not change.",
    ),
    Client(
        name="JDBC",
        shown="Java: the Flight SQL JDBC driver",
        note="Version 18.3.0. It does not append. Reads are queries, and show values, not Arrow types; the kind of an "
        "error stands in its message.",
    ),
    Client(name="Node", shown="Node: apache-arrow and gRPC"),
    Client(name="Rust", shown="Rust: arrow-flight", note="It sends dictionaries plain unless told to resend them."),
)

_BEFORE = """\
# Clients and what they can do

Every *yes* is what a test has shown with this client and a real server; `make clients-page` writes this page from such
a run, and `make test-all` fails when the page says anything else. An empty cell has no test. How to use them: [write
from other languages](../how-to/other-languages.md).

"""

_AFTER = """
| column | what was shown |
|---|---|
| bulk put | many batches arrive under a key of the dataset, and read back equal |
| replay | the same again, under the same idempotency key, gives the first receipt (or its rows) and adds nothing |
| conflict | other rows under that idempotency key are refused, and the client can tell by the kind |
| refused schema | columns that do not fit are refused as `schema_mismatch`, and nothing is stored |
| nested types | lists, structs and maps with nulls at every level read back equal, bit for bit |
| dictionaries | dictionary columns read back as dictionary columns |
| killed client leaves nothing | after a kill -9 in the middle of a stream: no rows, no files; the key is free |
| reads | a dataset is read back equal |
| SQL | a query returns rows |
| TLS and token | appends (JDBC: asks) over TLS where its token may; elsewhere, and without, refusals are told by kind |
"""


def render(shown: Collection[Cell]) -> str:
    """The page, if tests have shown these cells."""
    lines = [_line("client", *CAPABILITIES), "|" + "---|" * (len(CAPABILITIES) + 1)]
    notes: list[str] = []
    for client in CLIENTS:
        mark = ""
        if client.note:
            notes.append(client.note)
            mark = f" ({len(notes)})"
        lines.append(_line(client.shown + mark, *(_answer((client.name, each), shown) for each in CAPABILITIES)))
    numbered = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    return _BEFORE + "\n".join(lines) + f"\n\n{numbered}\n" + _AFTER


def cells_of(page: str) -> set[Cell]:
    """The cells in which a page says *yes*."""
    said = set()
    for client in CLIENTS:
        row = re.search(rf"^\| {re.escape(client.shown)}(?: \(\d+\))? \|(.*)\|$", page, re.M)
        answers = row[1].split("|") if row else []
        said |= {(client.name, name) for name, answer in zip(CAPABILITIES, answers, strict=False) if "yes" in answer}
    return said


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _answer(cell: Cell, shown: Collection[Cell]) -> str:
    return "yes" if cell in shown else " "
