"""Append an Arrow stream file exactly once with stock ADBC, whose Flight SQL driver is written in Go.

    python examples/adbc_ingest.py meters june.arrows --idempotency-key meters/june --key site=12

Flight SQL has no sign of where a stream ends. A program that dies cancels its call, and nothing is stored.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_manager import AdbcStatusCode, Error
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
LARGEST_MESSAGE_BYTES = 256 << 20
HEADER = "adbc.flight.sql.rpc.call_header."
MAY_BE_REPEATED = {AdbcStatusCode.IO, AdbcStatusCode.CANCELLED, AdbcStatusCode.TIMEOUT, AdbcStatusCode.INTERNAL}


def main() -> None:
    arguments = _arguments()
    try:
        print(ingest(arguments))
    except Error as failure:
        kind, _ = details(failure)
        sys.exit(f"not appended ({kind or failure.status_code.name}): {str(failure).splitlines()[0]}")


def ingest(arguments: argparse.Namespace) -> int:
    """Ingest until there is an answer; raises the last error at the deadline, at once what repeating cannot help."""
    deadline, wait_s = time.monotonic() + arguments.deadline, FIRST_WAIT_S
    while True:
        try:
            return ingest_once(arguments)
        except Error as failure:
            _, delay_s = details(failure)
            pause_s = max(delay_s, wait_s * random.uniform(0.5, 1))
            if failure.status_code not in MAY_BE_REPEATED or time.monotonic() + pause_s > deadline:
                raise
            time.sleep(pause_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def ingest_once(arguments: argparse.Namespace) -> int:
    """Send one stream and return the number of its rows."""
    key = dict(part.split("=", 1) for part in arguments.key)
    headers = {"x-idempotency-key": arguments.idempotency_key, "x-timestore-key": json.dumps(key)}
    url = arguments.url.replace("grpc://", "grpc+tcp://")
    with (
        pa.ipc.open_stream(arguments.file.open("rb")) as batches,
        flight_sql.connect(url, db_kwargs=options(arguments), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_statement.set_options(**{HEADER + name: value for name, value in headers.items()})
        rows: int = cursor.adbc_ingest(arguments.dataset, batches, mode="create_append")
        return rows


def options(arguments: argparse.Namespace) -> dict[str, str]:
    """How the driver connects: with large messages, the authorities to trust, and a token."""
    chosen = {DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(LARGEST_MESSAGE_BYTES)}
    if arguments.tls_root is not None:
        chosen[DatabaseOptions.TLS_ROOT_CERTS.value] = arguments.tls_root.read_text(encoding="ascii")
    if arguments.token_file is not None:
        token = arguments.token_file.read_text(encoding="ascii").strip()
        chosen[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {token}"
    return chosen


def details(failure: Error) -> tuple[str, float]:
    """Return the kind of an error, and for how many seconds the server asks us to wait."""
    kind, delay_s = "", 0.0
    for name, value in failure.details:
        if name not in (b"grpc-status-details-bin", "grpc-status-details-bin"):
            continue
        detail, info, retry = Any.FromString(value), error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            kind = info.reason
        elif detail.Unpack(retry):
            delay_s = retry.retry_delay.ToTimedelta().total_seconds()
    return kind, delay_s


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Append an Arrow stream file exactly once, with ADBC.")
    parser.add_argument("dataset")
    parser.add_argument("file", type=Path)
    parser.add_argument("--idempotency-key", required=True, help="names exactly these rows")
    parser.add_argument("--key", action="append", default=[], metavar="NAME=VALUE", help="a part of the semantic key")
    parser.add_argument("--deadline", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--url", default="grpc://127.0.0.1:8815", help="grpc:// or grpc+tls://")
    parser.add_argument("--token-file", type=Path, help="holds the bearer token")
    parser.add_argument("--tls-root", type=Path, help="PEM of the authorities to trust, instead of the system's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
