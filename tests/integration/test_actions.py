"""Actions: every one, every field, in pages, as JSON and as Arrow."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import timestore
from catalog.connections import Connections
from flight_server.tables import PAGE_METADATA
from readers.items import DATASET_SCHEMA, HISTORY_SCHEMA, MANIFEST_SCHEMA
from tests.fixtures.actions import BODIES, act, act_one, act_raw
from tests.fixtures.catalog_rows import commit, new_append, new_slice, next_plan, open_ledger
from tests.fixtures.data import cpu_table
from timestore.errors import InvalidInputError, NotFoundError, TimestoreError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "actions.md"
TABLES = {"list_datasets": DATASET_SCHEMA, "manifest": MANIFEST_SCHEMA, "history": HISTORY_SCHEMA}


def section(name: str) -> str:
    """What the reference says about an action."""
    return PAGE.read_text(encoding="utf-8").split(f"\n## {name}\n")[1].split("\n## ")[0]


def documented_fields(name: str) -> list[str]:
    """The fields in the table of an action's section."""
    rows = [line for line in section(name).splitlines() if line.startswith("| `")]
    return [field for row in rows for field in re.findall(r"`(\w+)`", row.split(" | ")[0])]


def arrow_pages(url: str, name: str, **fields: Any) -> list[dict[str, Any]]:
    """The pages of a table in the form that JSON has."""
    pages = []
    for body in act_raw(url, name, format="arrow", **fields):
        table = pa.ipc.open_stream(body).read_all()
        assert table.schema.equals(TABLES[name])
        maps = [field.name for field in table.schema if pa.types.is_map(field.type)]
        items = [item | {name: dict(item[name]) for name in maps} for item in table.to_pylist()]
        pages.append({"items": items, **json.loads(table.schema.metadata[PAGE_METADATA])})
    return pages


@pytest.fixture(name="filled")
def _filled(client: timestore.Client) -> timestore.Client:
    """Three datasets; one with limits, keys, several windows and versions."""
    create = {
        "window": "1h", "max_rows_per_put": 10_000, "max_bytes": 10**12, "retention": "36500d",
        "min": "2020-01-01T00:00:00Z", "max": "2030-01-01T00:00:00.5Z", "future_tolerance_s": 10**9,
    }  # fmt: skip
    for number in range(4):
        key = {"region": "eu" if number % 2 else "us", "site": f'z"ü{number}'}
        client.append("cpu", cpu_table(1_000, offset=number), key=key, create=create, idempotency_key=f"k{number}")
    client.append("plain", cpu_table(10))
    client.create_dataset("empty", cpu_table(1).schema)
    return client


def test_reference_names_every_action(server_url: str) -> None:
    """The reference has a section for each action that the server lists, and no other; so have these tests."""
    with flight.FlightClient(server_url) as client:
        listed = sorted(action.type for action in client.list_actions())

    headings = re.findall(r"^## (\w+)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert listed == sorted(set(headings) - {"Tables"}) == sorted(BODIES)


@pytest.mark.parametrize("name", BODIES)
def test_unknown_fields_are_refused(server_url: str, filled: timestore.Client, name: str) -> None:
    """Every action refuses a field that it does not know, before it does anything."""
    with pytest.raises(InvalidInputError) as caught:
        act(server_url, name, **BODIES[name], nonsense=1)

    assert caught.value.kind == "descriptor_invalid"
    assert [item["dataset"] for item in filled.datasets()] == ["cpu", "empty", "plain"]


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_documented(server_url: str, filled: timestore.Client, name: str) -> None:
    """Every field that an action knows stands in its section of the reference, and no other."""
    with pytest.raises(InvalidInputError) as caught:
        act(server_url, name, **BODIES[name], nonsense=1)
    known = re.search(r"known are \[(.*?)\]", caught.value.message)

    body = re.search(r"Body: `\{([^}]*)\}`", section(name), re.S)

    assert body is not None
    assert known is not None
    assert sorted(re.findall(r"\w+", body[1])) == sorted(re.findall(r"'(\w+)'", known[1]))


@pytest.mark.parametrize("name", ["manifest", "history"])
def test_items_are_documented(name: str) -> None:
    """The fields of a table's items in the reference are those that travel, in that order."""
    assert documented_fields(name) == TABLES[name].names


def test_description_is_documented(filled: timestore.Client) -> None:
    """The reference says which fields a description has, and no other."""
    assert sorted(documented_fields("describe_dataset")) == sorted(DATASET_SCHEMA.names)
    assert list(filled.describe("cpu")) == sorted(DATASET_SCHEMA.names)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("list_datasets", {}),
        ("manifest", {"dataset": "cpu"}),
        ("manifest", {"dataset": "cpu", "version": 2, "key": {"region": "eu"}}),
        ("manifest", {"dataset": "empty"}),
        ("history", {"dataset": "cpu"}),
        ("history", {"dataset": "empty"}),
    ],
)
def test_arrow_says_what_json_says(
    server_url: str, filled: timestore.Client, name: str, fields: dict[str, Any]
) -> None:
    """Each page as Arrow has the items, the cursor and the rest of the page as JSON, in one fixed schema."""
    pages = act(server_url, name, **fields)

    assert arrow_pages(server_url, name, **fields) == pages
    assert all(sorted(item) == sorted(TABLES[name].names) for page in pages for item in page["items"])


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
@pytest.mark.parametrize(("name", "fields"), [("list_datasets", {}), *((n, {"dataset": "cpu"}) for n in ("manifest", "history"))])  # fmt: skip  # noqa: E501
def test_one_page_at_a_time(
    server_url: str, filled: timestore.Client, name: str, fields: dict[str, Any], limit: int
) -> None:
    """With `limit` a call gives one page; following `next` gives every item once, in the order of the whole table."""
    whole = [item for page in act(server_url, name, **fields) for item in page["items"]]
    items: list[Any] = []
    cursor = None
    while True:
        page = act_one(server_url, name, limit=limit, cursor=cursor, **fields)
        items += page["items"]
        if (cursor := page["next"]) is None:
            break
        assert len(page["items"]) == limit
    assert len(whole) >= 3
    assert items == whole


def test_pages_have_at_most_500_items(server_url: str, client: timestore.Client, connections: Connections) -> None:
    """A long table streams in pages of 500 items, the last of which has no cursor, be it full."""
    client.append("cpu", cpu_table(1), key={"site": "x"})
    ledger = open_ledger(connections)
    dataset = ledger.find_dataset("cpu")
    assert dataset is not None
    commit(ledger, next_plan(dataset), [new_append([new_slice(f"s{number}", 1) for number in range(999)])])

    for pages in (act(server_url, "manifest", dataset="cpu"), arrow_pages(server_url, "manifest", dataset="cpu")):
        assert [len(page["items"]) for page in pages] == [500, 500]
        assert [page["next"] is None for page in pages] == [False, True]
        assert {page["version"] for page in pages} == {2}


def test_cursor_goes_on_at_its_version(server_url: str, filled: timestore.Client) -> None:
    """Pages asked for one by one are of one version, whatever is appended meanwhile."""
    whole = filled.manifest("cpu")
    page = act_one(server_url, "manifest", dataset="cpu", limit=5)
    filled.append("cpu", cpu_table(1_000), key={"region": "eu", "site": "0"})

    rest = act(server_url, "manifest", dataset="cpu", cursor=page["next"])

    assert page["items"] + [item for each in rest for item in each["items"]] == whole
    assert {each["version"] for each in rest} == {4}
    with pytest.raises(InvalidInputError, match="version 4"):
        act(server_url, "manifest", dataset="cpu", cursor=page["next"], version=3)


@pytest.mark.parametrize("limit", [0, 501, -1, "5", 1.0])
def test_senseless_limits_are_refused(server_url: str, limit: object) -> None:
    """A page has 1 to 500 items."""
    with pytest.raises(InvalidInputError, match="limit"):
        act(server_url, "list_datasets", limit=limit)


@pytest.mark.parametrize("cursor", [[], ["x"], ["1", "2", "3"], ["x"] * 6, "x", [1]])
@pytest.mark.parametrize("name", ["manifest", "history"])
def test_foreign_cursors_are_typed_errors(server_url: str, filled: timestore.Client, name: str, cursor: object) -> None:
    """A cursor that no page gave is refused, whatever it is."""
    with pytest.raises(TimestoreError) as caught:
        act(server_url, name, dataset="cpu", cursor=cursor)

    assert caught.value.kind == "descriptor_invalid"


def test_cursor_of_a_dropped_dataset_expires(server_url: str, filled: timestore.Client) -> None:
    """A cursor does not go on in another dataset of the same name."""
    page = act_one(server_url, "manifest", dataset="cpu", limit=1)
    act_one(server_url, "drop_dataset", dataset="cpu", confirm="cpu")
    filled.append("cpu", cpu_table(10))

    with pytest.raises(NotFoundError) as caught:
        act(server_url, "manifest", dataset="cpu", cursor=page["next"])

    assert caught.value.kind == "version_expired"


def test_health_sees_that_the_storage_is_gone(server_url: str, tmp_path: Path) -> None:
    """Where the storage was moved away, `health` says so, and says `ok` again once it is back."""
    (tmp_path / "data").rename(tmp_path / "away")
    assert act_one(server_url, "health")["storage"] == "storage_unavailable"
    (tmp_path / "away").rename(tmp_path / "data")
    assert act_one(server_url, "health")["storage"] == "ok"


def test_health(server_url: str) -> None:
    """A server that is well says so, and which protocol it speaks."""
    assert act(server_url, "health") == [
        {"status": "ok", "version": timestore.__version__, "protocol": 1, "catalog": "ok", "storage": "ok"}
    ]


def test_datasets_cannot_be_renamed(server_url: str) -> None:
    """Who looks for an action that renames is told that there is none, and what to do."""
    with pytest.raises(NotFoundError, match="cannot be renamed") as caught:
        act(server_url, "rename_dataset", dataset="cpu", to="cpu2")

    assert caught.value.kind == "action_unknown"
