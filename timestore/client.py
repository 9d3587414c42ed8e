"""The client: append Arrow data exactly once, read it back, look at manifests.

client = timestore.connect("grpc://127.0.0.1:8815")
receipt = client.append("cpu", table, key={"region": "eu"}, idempotency_key="upload-17")
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.flight as flight

from timestore.datasets import CreateOptions
from timestore.descriptor import PROTOCOL_VERSION, Landing, PutDescriptor
from timestore.errors import InternalError, RetryableError, TimestoreError, error
from timestore.identifiers import uuid7
from timestore.json_object import JsonObject, canonical_json
from timestore.names import PartitionKey, parse_idempotency_key
from timestore.reading import AsOf, ReadDescriptor, Selection
from timestore.receipt import Receipt
from timestore.wire_errors import decode_status

BATCH_ROWS = 65_536  # messages of 8 to 128 Ki rows travel fastest


def connect(url: str) -> Client:
    """Return a client of the server at ``grpc://host:port``. The connection is made by the first call."""
    return Client(url)


class Client:
    """A connection to one server. Thread safe; close it, or use it in a ``with`` block.

    Every method raises a ``TimestoreError``: see ``timestore.errors`` for what to do about which.
    """

    def __init__(self, url: str) -> None:
        self._flight = flight.FlightClient(url)

    def close(self) -> None:
        self._flight.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def append(
        self,
        dataset: str,
        data: Any,
        *,
        key: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        create: Mapping[str, Any] | None = None,
        landing: str = "auto",
    ) -> Receipt:
        """Append all rows of ``data`` at once, exactly once, and return the receipt.

        ``data`` is a table, a record batch, a record batch reader, or anything with ``__arrow_c_stream__``. ``create``
        says how to create the dataset if it does not exist: ``timestamp_column``, ``window``, ``order``, ``evolution``,
        ``min``, ``max``, ``future_tolerance_s``.

        Repeat a failed append with the same ``idempotency_key`` (the error has it, also if none was given): it gives
        the receipt of the first attempt if that did commit after all, and never adds the rows twice.
        """
        idempotency_key = parse_idempotency_key(idempotency_key) if idempotency_key is not None else str(uuid7())
        descriptor = PutDescriptor(
            dataset=dataset,
            key=PartitionKey.parse(key or {}),
            idempotency_key=idempotency_key,
            landing=_landing(landing),
            create=_create_options(create),
        )
        try:
            with _translated():
                return self._put(descriptor, _as_reader(data))
        except TimestoreError as failure:
            failure.idempotency_key = idempotency_key
            raise

    def read(
        self,
        dataset: str,
        *,
        key: Mapping[str, str] | None = None,
        columns: list[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        version: int | None = None,
        as_of: datetime | None = None,
        with_key: bool = False,
    ) -> pa.Table:
        """Read rows of a dataset at one version (the newest, unless said otherwise) into a table.

        ``key`` selects by a subset of the key's parts; ``start`` (included) and ``end`` (not) by the timestamp column.
        """
        descriptor = ReadDescriptor(
            dataset=dataset,
            selection=Selection(
                key=PartitionKey.parse(key or {}),
                columns=tuple(columns) if columns is not None else None,
                start=_aware(start),
                end=_aware(end),
                with_key=with_key,
            ),
            as_of=_as_of(version, as_of),
        )
        with _translated():
            info = self._flight.get_flight_info(flight.FlightDescriptor.for_command(descriptor.to_command()))
            batches = [
                chunk.data
                for endpoint in info.endpoints
                for chunk in self._flight.do_get(endpoint.ticket)
                if chunk.data
            ]
            return pa.Table.from_batches(batches, info.schema)

    def create_dataset(self, dataset: str, schema: pa.Schema, **options: Any) -> dict[str, Any]:
        """Create a dataset without rows, with the options of ``append``'s ``create``; return its description."""
        body = {"dataset": dataset, "schema": base64.b64encode(schema.serialize()).decode(), **options}
        return self._single("create_dataset", body)

    def datasets(self) -> list[dict[str, Any]]:
        """Describe all datasets, by name."""
        return self._items("list_datasets", {})

    def describe(self, dataset: str) -> dict[str, Any]:
        """Describe a dataset: what it is, its newest version, and its totals."""
        return self._single("describe_dataset", {"dataset": dataset})

    def manifest(
        self,
        dataset: str,
        *,
        version: int | None = None,
        as_of: datetime | None = None,
        key: Mapping[str, str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[dict[str, Any]]:
        """List the files visible at a version, by window, key and version."""
        selection = Selection(key=PartitionKey.parse(key or {}), start=_aware(start), end=_aware(end))
        body = selection.as_json() | _as_of(version, as_of).as_json()
        return self._items("manifest", {"dataset": dataset, **body})

    def receipt(self, dataset: str, idempotency_key: str) -> Receipt:
        """Return the receipt of an append; raises ``receipt_not_found`` while there is none."""
        return Receipt.from_json(self._single("receipt", {"dataset": dataset, "idempotency_key": idempotency_key}))

    def history(self, dataset: str) -> list[dict[str, Any]]:
        """List a dataset's commits, newest first."""
        return self._items("history", {"dataset": dataset})

    def health(self) -> dict[str, Any]:
        """Say whether the server can take puts."""
        return self._single("health", {})

    def stats(self) -> dict[str, Any]:
        """Return counts and memory of the server."""
        return self._single("stats", {})

    def _put(self, descriptor: PutDescriptor, data: pa.RecordBatchReader) -> Receipt:
        if any("\0" in name for name in data.schema.names):
            raise error("schema_mismatch", "a column's name has a NUL character, which would be cut on the way")
        writer, answers = self._flight.do_put(flight.FlightDescriptor.for_command(descriptor.to_command()), data.schema)
        try:
            receipt = _send(writer, answers, data)
        except BaseException:
            # The server refuses a stream without an end marker; what it says of that is not what went wrong.
            with suppress(pa.ArrowException):
                writer.close()
            raise
        writer.close()
        if receipt is None:
            raise InternalError("internal", "the server ended the stream without a receipt; send this again")
        return receipt

    def _action(self, name: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        encoded = canonical_json({"v": PROTOCOL_VERSION, **body}).encode()
        with _translated():
            for result in self._flight.do_action(flight.Action(name, encoded)):
                yield json.loads(result.body.to_pybytes())

    def _single(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        [result] = self._action(name, body)
        return result

    def _items(self, name: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [item for page in self._action(name, body) for item in page["items"]]


def _send(
    writer: flight.FlightStreamWriter, answers: flight.FlightMetadataReader, data: pa.RecordBatchReader
) -> Receipt | None:
    """Send everything once the server is ready, say that it was everything, and return the receipt."""
    if answers.read() is None:
        return None  # refused: closing the stream says why
    rows = 0
    for batch in data:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            _write_batch(writer, batch.slice(start, BATCH_ROWS))
        rows += batch.num_rows
    writer.write_metadata(canonical_json({"end": True, "rows": rows}).encode())
    writer.done_writing()
    receipt = None
    while (answer := answers.read()) is not None:
        fields = json.loads(answer.to_pybytes())
        if fields["type"] == "receipt":
            receipt = Receipt.from_json(fields)
    return receipt


def _write_batch(writer: flight.FlightStreamWriter, batch: pa.RecordBatch) -> None:
    try:
        writer.write_batch(batch)
    except flight.FlightError:
        raise
    except pa.ArrowException:
        writer.close()  # a stream that the server ended says why when it is closed
        raise


def _landing(name: str) -> Landing:
    try:
        return Landing(name)
    except ValueError as exc:
        raise error(
            "descriptor_invalid", f"the landing {name!r} is not one of {[str(form) for form in Landing]}"
        ) from exc


def _aware(moment: datetime | None) -> datetime | None:
    """Refuse a time without a zone: it would mean another instant on every machine."""
    if moment is not None and moment.tzinfo is None:
        raise error("descriptor_invalid", f"the time {moment} has no zone; use datetime(..., tzinfo=UTC)")
    return moment


def _as_of(version: int | None, moment: datetime | None) -> AsOf:
    if version is not None and moment is not None:
        raise error("descriptor_invalid", "give either version or as_of, not both")
    return AsOf(version=version, moment=_aware(moment))


def _as_reader(data: Any) -> pa.RecordBatchReader:
    if isinstance(data, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(data.schema, [data])
    return pa.RecordBatchReader.from_stream(data)


def _create_options(create: Mapping[str, Any] | None) -> CreateOptions | None:
    if create is None:
        return None
    fields = JsonObject.of(dict(create), what="create options")
    options = CreateOptions.from_json(fields)
    fields.finish()
    return options


@contextmanager
def _translated() -> Iterator[None]:
    """Turn Flight's errors back into the typed ones that the server raised."""
    try:
        yield
    except flight.FlightError as exc:
        typed = decode_status(exc.extra_info) if exc.extra_info else None
        raise typed or _untyped(exc) from exc


def _untyped(exc: flight.FlightError) -> TimestoreError:
    """Name an error that did not come from a Timestore server, mostly one of the connection."""
    message = str(exc).splitlines()[0]
    if isinstance(exc, flight.FlightUnavailableError):
        return RetryableError("unreachable", f"the server cannot be reached; is it running? ({message})")
    if isinstance(exc, flight.FlightCancelledError | flight.FlightTimedOutError):
        return error("cancelled", message)
    return InternalError("internal", message)
