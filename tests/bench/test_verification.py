"""That what was read back is compared with what was sent: a fast wrong run fails."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bench.data import SHAPES
from bench.load import Load, Rows
from bench.measuring import WrongResultError
from bench.row_digest import RowDigest
from bench.verify import check_stored

ROWS = 2000


def digest(table: pa.Table) -> RowDigest:
    """Digest all columns of a table."""
    return RowDigest.of(table.to_batches(), table.column_names)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.name)
def test_the_digest_knows_every_value_but_no_order(shape) -> None:
    """The digest does not change with order and batches; it does with a value, and with values in other rows."""
    table = pa.Table.from_batches(shape.batches(ROWS))
    turned = table.take(list(reversed(range(ROWS))))
    assert digest(pa.concat_tables([turned.slice(0, 7), turned.slice(7)])) == digest(table)
    assert digest(turned).text_in_order != digest(table).text_in_order

    for name in table.column_names[:25]:
        column = table[name].chunk(0)
        moved = pa.chunked_array([column.slice(1), column.slice(0, 1)])
        assert digest(table.set_column(table.column_names.index(name), name, moved)) != digest(table), name


def test_the_digest_is_the_same_in_another_encoding() -> None:
    """Dictionaries, the unit of timestamps and how their zone is called do not matter: peers differ in them."""
    plain, encoded = (pa.Table.from_batches(SHAPES[name].batches(ROWS)) for name in ("plain", "dict"))
    assert digest(encoded) == digest(plain)
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("us", "Etc/UTC"), pa.timestamp("us")):
        assert digest(plain.set_column(0, "ts", plain["ts"].cast(kind))) == digest(plain)


@pytest.mark.parametrize("name", ["ts", "hostname", "usage_user"])
def test_a_null_is_no_value(name) -> None:
    """A value that became null is noticed."""
    table = pa.Table.from_batches(SHAPES["dict"].batches(ROWS))
    place = table.column_names.index(name)
    holed = pa.array([None, *table[name].to_pylist()[1:]], table[name].type)
    assert digest(table.set_column(place, name, holed)) != digest(table)


def test_rows_many_times_over() -> None:
    """The digest of repeated rows is known without making them."""
    table = pa.Table.from_batches(SHAPES["plain"].batches(ROWS))
    assert digest(table).times(3) == digest(pa.concat_tables([table] * 3))


def test_a_wrong_contender_is_caught() -> None:
    """A lost row, a row too many, a changed value and a changed order are caught, each by a message that says which."""
    rows = Rows.make(SHAPES["plain"], ROWS)
    table = pa.Table.from_batches(rows.batches)
    changed = table.set_column(1, "hostname", pa.array(["elsewhere", *table["hostname"].to_pylist()[1:]]))
    wrong = {"lost": table.slice(1), "too many": pa.concat_tables([table, table.slice(0, 1)]), "changed": changed}

    check_stored("somebody", Load(rows=rows), table.to_batches())
    for stored in wrong.values():
        with pytest.raises(WrongResultError, match=r"somebody on plain: read back .* sent 2,000 rows"):
            check_stored("somebody", Load(rows=rows), stored.to_batches())
    turned = table.take(list(reversed(range(ROWS)))).to_batches()
    with pytest.raises(WrongResultError, match="in another order"):
        check_stored("somebody", Load(rows=rows), turned)
    check_stored("somebody", Load(rows=rows, order="any"), turned)
    check_stored("somebody", Load(rows=rows, streams=4), turned)
