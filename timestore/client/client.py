"""``Client``: what can be asked of a server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from os import PathLike
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.flight as flight

from timestore.client.access import NO_ACCESS, Access, Token, access_of
from timestore.client.append_many import Append, AppendResult, append_many
from timestore.client.arguments import as_of_of, aware, create_options, landing_of
from timestore.client.connection import Connection
from timestore.client.flight_errors import translated, translated_text
from timestore.client.payload import payload_of
from timestore.client.put_call import OnProgress, put
from timestore.client.retrying import DEFAULT_DEADLINE_S, Retrying
from timestore.client.row_stream import RowStream
from timestore.descriptor import PROTOCOL_VERSION, PutDescriptor
from timestore.errors import TimestoreError
from timestore.identifiers import uuid7
from timestore.json_object import canonical_json
from timestore.names import PartitionKey, parse_idempotency_key
from timestore.reading import ReadDescriptor, Selection
from timestore.receipt import Receipt

CONNECTIONS = 4  # of ``append_many``, unless said otherwise


def connect(
    url: str,
    *,
    token: Token | None = None,
    tls_root_certs: bytes | str | PathLike[str] | None = None,
    tls_client_cert: bytes | str | PathLike[str] | None = None,
    tls_client_key: bytes | str | PathLike[str] | None = None,
    deadline_s: float = DEFAULT_DEADLINE_S,
    retries: bool = True,
) -> Client:
    """Return a client of the server at ``grpc://host:port``, or with TLS ``grpc+tls://host:port``.

    The connection is made by the first call. ``token`` is sent with every call: a text, or a function that gives one
    each time, for tokens that do not last. ``tls_root_certs`` has the authorities, or the very certificate, that the
    client trusts, instead of those of the system; ``tls_client_cert`` and ``tls_client_key`` are what it proves itself
    with. Each is the path of a PEM file, or its bytes.

    What fails for no fault of its own (the server is away, starting, or at a limit) is repeated for ``deadline_s``
    seconds; with ``retries=False`` every call is made once.
    """
    access = access_of(
        token=token,
        tls_root_certs=tls_root_certs,
        tls_client_cert=tls_client_cert,
        tls_client_key=tls_client_key,
    )
    return Client(url, access=access, deadline_s=deadline_s if retries else 0.0)


class Client:
    """A connection to one server. Thread safe; close it, or use it in a ``with`` block.

    Every method raises a ``TimestoreError``: see ``timestore.errors`` for what to do about which. What the caller's own
    data source or callback raises is passed on as it is.
    """

    def __init__(self, url: str, *, access: Access = NO_ACCESS, deadline_s: float = DEFAULT_DEADLINE_S) -> None:
        self._url = url
        self._access = access
        self._deadline_s = deadline_s
        self._flight = Connection(url, access)

    def close(self) -> None:
        """Close the connection."""
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
        deadline_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Receipt:
        """Append all rows of ``data`` at once, exactly once, and return the receipt.

        ``data`` is a pyarrow table, record batch or reader, a pandas or polars frame, an iterable of those, or anything
        with ``__arrow_c_stream__`` or ``__arrow_c_array__``. A pandas frame's index is refused unless it is the
        default one, which is no data. ``create`` says how to create the dataset if it does not exist:
        ``timestamp_column``, ``window``, ``order``, ``evolution``, ``min``, ``max``, ``future_tolerance_s``,
        ``max_rows_per_put``, ``max_bytes``, ``retention``, ``storage`` (the name of a storage target).

        A put that fails for no fault of its own is repeated with the same idempotency key until ``deadline_s`` (the
        client's, unless given; 0: never), if its rows can be sent again: a reader or a generator cannot, once it was
        touched. Afterwards the last error is raised, with ``idempotency_key`` on it, also if none was given. Repeating
        with it gives the receipt of the first attempt if that did commit after all, and never adds the rows twice.

        ``on_progress`` is called on this thread after each message that was sent or has come.
        """
        idempotency_key = parse_idempotency_key(idempotency_key) if idempotency_key is not None else str(uuid7())
        try:
            descriptor = PutDescriptor(
                dataset=dataset,
                key=PartitionKey.parse(key or {}),
                idempotency_key=idempotency_key,
                landing=landing_of(landing),
                create=create_options(create),
            )
            payload = payload_of(data)
            return self._retrying(deadline_s).call(
                lambda: put(self._flight, descriptor, payload, on_progress), may_repeat=lambda: payload.can_be_sent
            )
        except TimestoreError as failure:
            failure.idempotency_key = idempotency_key
            raise

    def append_many(
        self, appends: Iterable[Append], *, connections: int = CONNECTIONS, deadline_s: float | None = None
    ) -> list[AppendResult]:
        """Run many appends, on several connections at once, and return what became of each, in their order.

        Each is an append of its own, with its own receipt or error: one that fails stops no other. Appends are taken
        from the iterable as they are due. Those to one dataset may commit in another order than the given one.
        """
        seconds = self._deadline_s if deadline_s is None else deadline_s
        return append_many(
            appends,
            open_connection=lambda: Client(self._url, access=self._access, deadline_s=seconds),
            connections=connections,
        )

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
        parallel: int = 1,
    ) -> pa.Table:
        """Read rows of a dataset at one version (the newest, unless said otherwise) into a table.

        ``key`` selects by a subset of the key's parts; ``start`` (included) and ``end`` (not) by the timestamp column.
        ``with_key`` adds the key's parts as text columns. ``parallel`` is as in ``read_batches``.
        """
        return self.read_batches(
            dataset,
            key=key,
            columns=columns,
            start=start,
            end=end,
            version=version,
            as_of=as_of,
            with_key=with_key,
            parallel=parallel,
        ).read_all()

    def read_batches(
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
        parallel: int = 1,
    ) -> pa.RecordBatchReader:
        """Read as ``read`` does, but batch by batch in bounded memory: iterate over what this returns.

        All rows are of one version, whatever is committed meanwhile. With ``parallel`` above 1, so many parts are read
        at once, each a few batches ahead; the order of rows stays the same.
        """
        descriptor = ReadDescriptor(
            dataset=dataset,
            selection=Selection(
                key=PartitionKey.parse(key or {}),
                columns=tuple(columns) if columns is not None else None,
                start=aware(start),
                end=aware(end),
                with_key=with_key,
            ),
            as_of=as_of_of(version, as_of),
        )
        info = self._call(
            lambda: self._flight.get_flight_info(flight.FlightDescriptor.for_command(descriptor.to_command()))
        )
        rows = RowStream(open_stream=self._flight.do_get, retrying=self._retrying(None))
        tickets = [endpoint.ticket for endpoint in info.endpoints]
        return pa.RecordBatchReader.from_batches(info.schema, rows.batches(tickets, parallel=parallel))

    def schema(self, dataset: str, *, version: int | None = None, as_of: datetime | None = None) -> pa.Schema:
        """Return the Arrow schema that a dataset has at a version."""
        descriptor = ReadDescriptor(dataset=dataset, as_of=as_of_of(version, as_of))
        command = flight.FlightDescriptor.for_command(descriptor.to_command())

        def get_schema() -> pa.Schema:
            with translated_text():
                return self._flight.get_schema(command).schema

        return self._call(get_schema)

    def create_dataset(self, /, dataset: str, schema: pa.Schema, **options: Any) -> dict[str, Any]:
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
        selection = Selection(key=PartitionKey.parse(key or {}), start=aware(start), end=aware(end))
        body = selection.as_json() | as_of_of(version, as_of).as_json()
        return self._items("manifest", {"dataset": dataset, **body})

    def receipt(self, dataset: str, idempotency_key: str) -> Receipt:
        """Return the receipt of an append; raises ``receipt_not_found`` while there is none."""
        return Receipt.from_json(self._single("receipt", {"dataset": dataset, "idempotency_key": idempotency_key}))

    def abandon(self, dataset: str, idempotency_key: str) -> dict[str, Any]:
        """Give up an idempotency key for ever: no append with it can commit any more.

        Returns ``abandoned``: true if so, false with the ``receipt`` if one had committed before.
        """
        return self._single("abandon", {"dataset": dataset, "idempotency_key": idempotency_key})

    def drop_dataset(self, dataset: str, *, confirm: str) -> dict[str, Any]:
        """Drop a dataset with all its rows; ``confirm`` is its name once more. There is no way back."""
        return self._single("drop_dataset", {"dataset": dataset, "confirm": confirm})

    def set_retention(self, dataset: str, retention: str | None) -> dict[str, Any]:
        """Say how long windows are kept after their end: ``<n>m``, ``<n>h``, ``<n>d``, or None for ever."""
        return self._single("set_retention", {"dataset": dataset, "retention": retention})

    def expire(self, dataset: str) -> dict[str, Any]:
        """Remove the windows that are past the dataset's retention now; the server does so once a minute by itself."""
        return self._single("expire", {"dataset": dataset})

    def history(self, dataset: str) -> list[dict[str, Any]]:
        """List a dataset's commits, newest first."""
        return self._items("history", {"dataset": dataset})

    def audit(self, dataset: str, *, principal: str | None = None) -> list[dict[str, Any]]:
        """List a dataset's appends with who made them, newest first; ``principal`` chooses one's own."""
        return self._items("audit", {"dataset": dataset} | ({"principal": principal} if principal is not None else {}))

    def sql(
        self,
        query: str,
        *,
        version: int | None = None,
        versions: Mapping[str, int] | None = None,
        as_of: datetime | None = None,
        max_rows: int | None = None,
        timeout_s: float | None = None,
    ) -> pa.Table:
        """Query datasets by one SQL statement of DuckDB, in the server, and return all rows.

        Each dataset is a table of its name, with the key's parts as text columns. ``version`` is for a query of one
        dataset, ``versions`` says one for each, ``as_of`` an instant for all; otherwise the newest are read. More than
        ``max_rows`` rows, or more than ``timeout_s`` seconds, are an error (``query_too_expensive``).
        """
        return self.sql_batches(
            query, version=version, versions=versions, as_of=as_of, max_rows=max_rows, timeout_s=timeout_s
        ).read_all()

    def sql_batches(
        self,
        query: str,
        *,
        version: int | None = None,
        versions: Mapping[str, int] | None = None,
        as_of: datetime | None = None,
        max_rows: int | None = None,
        timeout_s: float | None = None,
    ) -> pa.RecordBatchReader:
        """Query as ``sql`` does, but return the rows batch by batch, in bounded memory."""
        limits = {"versions": dict(versions) if versions else None, "max_rows": max_rows, "timeout_s": timeout_s}
        said = {name: value for name, value in limits.items() if value is not None}
        body = {"query": query, **as_of_of(version, as_of).as_json(), **said}
        streams = (pa.ipc.open_stream(result.body) for result in self._results("sql", body))
        first = next(streams)
        return pa.RecordBatchReader.from_batches(first.schema, chain(first, chain.from_iterable(streams)))

    def add_storage(self, storage: str, url: str, *, options: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Make the empty place at a URL a storage target, by which datasets can be created (``create``, ``storage``).

        ``options`` are those of the store's driver. Neither may have a secret: servers have their own credentials.
        """
        return self._single("add_storage", {"storage": storage, "url": url, "options": dict(options or {})})

    def list_storage(self) -> list[dict[str, Any]]:
        """Describe all storage targets, and whether the server can use each now."""
        return self._items("list_storage", {})

    def test_storage(self, storage: str, *, options: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Let the server try what a storage target (its name), or a place that is none yet (its URL), lets it do.

        Returns ``ok``, and for each of the ``steps`` whether it works and the ``reason`` if not.
        """
        is_place = "/" in storage
        body = {"url": storage, "options": dict(options or {})} if is_place else {"storage": storage}
        return self._single("test_storage", body)

    def sweep(self) -> dict[str, Any]:
        """Delete the files now that dead servers left in storage; the server does so once a minute by itself.

        Returns how many were given up (``condemned``) and of how many the bytes are gone (``deleted``).
        """
        return self._single("sweep", {})

    def health(self) -> dict[str, Any]:
        """Say whether the server can take puts."""
        return self._single("health", {})

    def stats(self) -> dict[str, Any]:
        """Return counts and memory of the server."""
        return self._single("stats", {})

    def _retrying(self, deadline_s: float | None) -> Retrying:
        return Retrying(deadline_s=self._deadline_s if deadline_s is None else deadline_s)

    def _call(self, call: Callable[[], Any]) -> Any:
        """Make a call that changes nothing when it is made twice."""

        def attempt() -> Any:
            with translated():
                return call()

        return self._retrying(None).call(attempt)

    def _action(self, name: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Run an action and yield its results. It is repeated until its first result has come."""
        for result in self._results(name, body):
            yield json.loads(result.body.to_pybytes())

    def _results(self, name: str, body: Mapping[str, Any]) -> Iterator[flight.Result]:
        action = flight.Action(name, canonical_json({"v": PROTOCOL_VERSION, **body}).encode())

        def begin() -> tuple[flight.Result | None, Iterator[flight.Result]]:
            results = iter(self._flight.do_action(action))
            return next(results, None), results

        result, rest = self._call(begin)
        while result is not None:
            yield result
            with translated():
                result = next(rest, None)

    def _single(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        [result] = self._action(name, body)
        return result

    def _items(self, name: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [item for page in self._action(name, body) for item in page["items"]]
