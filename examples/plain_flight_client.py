"""Append a Parquet or Arrow stream file exactly once with nothing but pyarrow: what any client has to do.

    python examples/plain_flight_client.py meters june.parquet --idempotency-key meters/june

It repeats what may be repeated, with the same idempotency key, until there is a receipt or the deadline has passed; and
it says where its stream ends, so that half of it can never be taken for all.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
from google.rpc import error_details_pb2, status_pb2

BATCH_ROWS = 65_536
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
MAY_BE_REPEATED = (
    flight.FlightUnavailableError,
    flight.FlightCancelledError,
    flight.FlightTimedOutError,
    flight.FlightInternalError,
)


def main() -> None:
    arguments = _arguments()
    descriptor = {
        "v": 1,
        "dataset": arguments.dataset,
        "key": dict(part.split("=", 1) for part in arguments.key),
        "idempotency_key": arguments.idempotency_key,
    }
    try:
        receipt = append(arguments, descriptor)
    except flight.FlightError as failure:
        kind, _ = details(failure)
        sys.exit(f"not appended ({kind or type(failure).__name__}): {str(failure).splitlines()[0]}")
    print(json.dumps(receipt))


def append(arguments: argparse.Namespace, descriptor: dict[str, Any]) -> dict[str, Any]:
    """Put until there is a receipt; raises the last error at the deadline, and at once what repeating cannot help."""
    deadline, wait_s = time.monotonic() + arguments.deadline, FIRST_WAIT_S
    while True:
        try:
            with connect(arguments) as client, batches_of(arguments.file) as batches:
                return put_once(client, headers(arguments), descriptor, batches)
        except MAY_BE_REPEATED as failure:
            _, delay_s = details(failure)
            pause_s = max(delay_s, wait_s * random.uniform(0.5, 1))
            if time.monotonic() + pause_s > deadline:
                raise
            time.sleep(pause_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def connect(arguments: argparse.Namespace) -> flight.FlightClient:
    """Connect, by TLS if the URL begins with grpc+tls."""
    if arguments.tls_root is None:
        return flight.connect(arguments.url)
    return flight.connect(arguments.url, tls_root_certs=arguments.tls_root.read_bytes())


def headers(arguments: argparse.Namespace) -> flight.FlightCallOptions:
    """Tell who is calling, if there is a token."""
    if arguments.token_file is None:
        return flight.FlightCallOptions()
    token = arguments.token_file.read_text(encoding="ascii").strip()
    return flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])


def batches_of(file: Path) -> pa.RecordBatchReader:
    """Read a file batch by batch, anew for each attempt."""
    if file.suffix == ".parquet":
        parquet = pq.ParquetFile(file)
        return pa.RecordBatchReader.from_batches(parquet.schema_arrow, parquet.iter_batches(BATCH_ROWS))
    return pa.ipc.open_stream(file.open("rb"))


def put_once(
    client: flight.FlightClient,
    options: flight.FlightCallOptions,
    descriptor: dict[str, Any],
    batches: pa.RecordBatchReader,
) -> dict[str, Any]:
    """Send one stream and return the receipt."""
    command = flight.FlightDescriptor.for_command(json.dumps(descriptor).encode())
    writer, answers = client.do_put(command, batches.schema, options)
    last: dict[str, Any] = {}
    with suppress(pa.ArrowException, OSError):  # the stream broke: close() says why
        if answers.read() is not None:  # ready, or committed; else it was refused
            send(writer, batches)
        while (answer := answers.read()) is not None:
            last = json.loads(answer.to_pybytes())
    writer.close()  # raises what the server answered
    if last.get("type") != "receipt":
        raise flight.FlightUnavailableError("the stream ended without a receipt")
    return last


def send(writer: flight.FlightStreamWriter, batches: pa.RecordBatchReader) -> None:
    """Send all batches, and say that they are all: without that, a stream that broke is never taken for a whole one."""
    rows = 0
    for batch in batches:
        writer.write_batch(batch)
        rows += batch.num_rows
    writer.write_metadata(json.dumps({"end": True, "rows": rows}).encode())
    writer.done_writing()


def details(failure: flight.FlightError) -> tuple[str, float]:
    """Return the kind of an error, and for how many seconds the server asks us to wait."""
    kind, delay_s = "", 0.0
    for detail in status_pb2.Status.FromString(failure.extra_info or b"").details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            kind = info.reason
        elif detail.Unpack(retry):
            delay_s = retry.retry_delay.ToTimedelta().total_seconds()
    return kind, delay_s


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Append a file exactly once, with plain Arrow Flight.")
    parser.add_argument("dataset")
    parser.add_argument("file", type=Path, help="Parquet if it is called so, else an Arrow stream")
    parser.add_argument("--idempotency-key", required=True, help="names exactly these rows")
    parser.add_argument("--key", action="append", default=[], metavar="NAME=VALUE", help="a part of the semantic key")
    parser.add_argument("--deadline", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--url", default="grpc://127.0.0.1:8815", help="grpc:// or grpc+tls://")
    parser.add_argument("--token-file", type=Path, help="holds the bearer token")
    parser.add_argument("--tls-root", type=Path, help="PEM of the authorities to trust, instead of the system's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
