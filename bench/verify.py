"""Whether what is stored is what was sent: a fast wrong run fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.flight as flight

from bench.load import Load
from bench.measuring import check
from bench.row_digest import RowDigest
from timestore.reading import AsOf, ReadDescriptor, Selection


def read_batches(url: str, dataset: str, columns: tuple[str, ...] | None = None) -> Iterator[pa.RecordBatch]:
    """Read a dataset batch by batch: it need not fit into memory."""
    descriptor = ReadDescriptor(dataset=dataset, selection=Selection(columns=columns), as_of=AsOf())
    with flight.FlightClient(url) as client:
        info = client.get_flight_info(flight.FlightDescriptor.for_command(descriptor.to_command()))
        for endpoint in info.endpoints:
            for chunk in client.do_get(endpoint.ticket):
                if chunk.data is not None:
                    yield chunk.data


def check_stored(who: str, load: Load, batches: Iterable[pa.RecordBatch]) -> None:
    """Compare rows that were read back with those that were sent; raises ``WrongResultError``."""
    expected = load.rows.digest
    found = RowDigest.of(batches, load.rows.columns)
    check(found == expected, f"{who} on {load.rows.shape}: read back {found}; sent {expected}")
    if load.keeps_order:
        kept = found.text_in_order == expected.text_in_order
        check(kept, f"{who} on {load.rows.shape}: all rows are there, in another order than they were sent")
