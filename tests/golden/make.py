"""Write what today's version stores, to be kept and read for ever.

python -m tests.golden.make NAME   # writes tests/golden/NAME.zip

The archive has the data directory's ``data/``, the catalog as ``catalog.zip``, and what reads must give: a table for
each dataset and version in ``expected/``, and the receipts by idempotency key in ``receipts.json``.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

import timestore
from catalog.transfer import export_catalog
from tests.fixtures.arrow_values import EXTENSIONS, LEAVES, random_batches
from tests.fixtures.data import START, cpu_table
from tests.fixtures.server import ServerProcess
from timestore_app.catalog_access import stopped_catalog
from timestore_app.settings import Settings

FOLDER = Path(__file__).parent
NESTED = [
    pa.list_(pa.float64()),
    pa.large_list_view(pa.string()),
    pa.list_(pa.int16(), 2),
    pa.struct([pa.field("a", pa.float32(), metadata={"unit": "mm"}), pa.field("b", pa.list_(pa.string()))]),
    pa.map_(pa.string(), pa.struct([pa.field("x", pa.duration("ns"))])),
    pa.dictionary(pa.int8(), pa.string()),
    pa.run_end_encoded(pa.int32(), pa.decimal128(20, 2)),
]


def every_type() -> pa.Table:
    """A column of each type, with nulls, odd floats and extremes."""
    types = [*LEAVES, *EXTENSIONS, *NESTED]
    columns = [pa.field(f"c{number:02d}", type_, metadata={"n": str(number)}) for number, type_ in enumerate(types)]
    schema = pa.schema([pa.field("ts", pa.timestamp("us", "UTC"), nullable=False), *columns], {"made by": "golden"})
    return pa.Table.from_batches(random_batches(schema, [40], np.random.default_rng(7)), schema)


def nans() -> pa.Table:
    """Only unusual NaNs, which DuckDB would make usual."""
    bits = np.array([0xFFF8 << 48, 0x7FF0 << 48 | 1] * 5, np.uint64)
    stamps = pa.array(START + np.arange(10), pa.timestamp("us", "UTC"))
    return pa.table({"ts": stamps, "value": pa.array(bits.view(np.float64))})


def fill(client: timestore.Client) -> dict[str, timestore.Receipt]:
    """Store what every later version must be able to read."""
    wide = cpu_table(30, offset=40)
    wide = wide.append_column("new", wide.column("up"))
    return {
        "a": client.append("cpu", cpu_table(20), key={"region": "eu"}, idempotency_key="a"),
        "b": client.append("cpu", cpu_table(20, offset=9_000), key={"region": "us/é"}, idempotency_key="b"),
        "c": client.append("cpu", wide, key={"region": "eu"}, idempotency_key="c"),
        "d": client.append("sorted", nans(), idempotency_key="d", create={"order": "sort", "window": "month"}),
        "e": client.append("types", every_type(), idempotency_key="e", create={"timestamp_column": "ts"}),
    }


def main(name: str) -> None:
    """Run a server, fill it, stop it, and pack everything."""
    with (
        TemporaryDirectory() as temporary,
        zipfile.ZipFile(FOLDER / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as zipped,
    ):
        folder = Path(temporary)
        server = ServerProcess(folder / "server", log=folder / "log").start()
        with timestore.connect(server.url) as client:
            receipts = fill(client)
            for dataset in client.datasets():
                for version in range(1, dataset["version"] + 1):
                    table = client.read(dataset["dataset"], version=version, with_key=True)
                    zipped.writestr(f"expected/{dataset['dataset']}-{version}.arrow", _as_file(table))
        server.terminate()
        with stopped_catalog(Settings.load(None, {"data_dir": server.data_dir})) as dsn:
            export_catalog(dsn, "timestore", folder / "catalog.zip")
        zipped.write(folder / "catalog.zip", "catalog.zip")
        zipped.writestr("receipts.json", json.dumps({key: receipt.as_json() for key, receipt in receipts.items()}))
        for path in sorted((server.data_dir / "data").rglob("*")):
            if path.is_file():
                zipped.write(path, path.relative_to(server.data_dir))


def _as_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


if __name__ == "__main__":
    main(sys.argv[1])
