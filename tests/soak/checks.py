"""What servers show, held against the model: at one version while all goes on, at every version once it is quiet."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.compute as pc

import timestore
from tests.fixtures.files import read_with_duckdb
from tests.soak.book import Book, Committed, Report
from tests.soak.events import Answered, Refused
from tests.soak.sent import EXTRA_COLUMNS, OLD_DAYS, RECENT_DAYS, Sent, sent
from timestore.errors import RetryableError, TimestoreError
from timestore.windows import parse_instant

ALL_DAYS = set(OLD_DAYS + RECENT_DAYS)
READ_AGAIN = 2  # older versions whose rows are read when a dataset is checked whole
OPENED = 6  # files that are opened with a DuckDB of our own then


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The versions of one incarnation that can be read."""

    incarnation: str
    oldest: int
    newest: int
    expiries: tuple[int, ...]  # versions that removed the old windows

    def days_visible(self, added: int, version: int) -> set[datetime]:
        """Return the days of which rows that came at version ``added`` must be visible at ``version``."""
        if added > version:
            return set()
        if any(added < expiry <= version for expiry in self.expiries):
            return set(RECENT_DAYS)
        return ALL_DAYS


class Checks:
    """Compares. What is wrong is reported, what was looked at is counted in the book."""

    def __init__(self, *, book: Book, violation: Report, dice: random.Random) -> None:
        self._book = book
        self._violation = violation
        self._dice = dice

    def look(self, client: timestore.Client, dataset: str) -> None:
        """Read a dataset at any version, while it is written to."""
        before = client.describe(dataset)
        version = self._dice.randint(before["oldest_version"], before["version"])
        table = client.read(dataset, version=version, with_key=True)
        history = _history(client, dataset)
        if (
            before["incarnation"] != history.incarnation
            or client.describe(dataset)["incarnation"] != history.incarnation
        ):
            return  # dropped meanwhile: no telling which one the rows are of
        self._compare_rows(dataset, history, version, table)
        self._book.counts["reads compared while all went on"] += 1

    def check_whole(self, client: timestore.Client, dataset: str) -> None:
        """Compare history, receipts, manifests at every version, files and rows of a dataset that nobody uses."""
        history = _history(client, dataset)
        committed = self._book.committed(dataset, history.incarnation)
        self._compare_history(dataset, client.history(dataset), committed.values())
        self._compare_receipts(client, dataset, committed)
        for version in range(history.oldest, history.newest + 1):
            self._compare_manifest(client, dataset, history, version, committed.values())
        older = [self._dice.randint(history.oldest, history.newest) for _ in range(READ_AGAIN)]
        for version in {history.newest, *older}:
            self._compare_rows(dataset, history, version, client.read(dataset, version=version, with_key=True))
        self._compare_files(client.manifest(dataset))
        self._book.counts["datasets checked whole"] += 1

    def resolve(
        self, client: timestore.Client, dataset: str, key: str, put: str, create: dict[str, Any] | None
    ) -> None:
        """Repeat a put of which nobody has heard the end, as its client should: then it has one."""
        content = sent(put)
        try:
            receipt = client.append(
                dataset, content.rows, key={"site": content.site}, idempotency_key=key, create=create
            )
        except TimestoreError as exc:
            if isinstance(exc, RetryableError):
                raise
            self._book.hear(
                Refused(dataset=dataset, key=key, put=put, kind=exc.kind, message=exc.message, in_doubt=False)
            )
            return
        self._book.hear(Answered(dataset=dataset, key=key, put=put, receipt=receipt.as_json()))

    def _compare_rows(self, dataset: str, history: History, version: int, table: pa.Table) -> None:
        """Compare every row: each put is there as a whole, as far as it has not expired, or not at all."""
        where = f"{dataset} at version {version}"
        shown = dict(by_put(table))
        committed = {done.put: done for done in self._book.committed(dataset, history.incarnation).values()}
        for put, done in committed.items():
            days = history.days_visible(done.version, version)
            rows = shown.get(put, table.slice(0, 0))
            if not same_rows(rows, sent(put), days):
                self._violation(
                    f"{where}: {put}, committed at version {done.version}, shows {rows.num_rows} rows, "
                    f"not the {sent(put).rows_of(days).num_rows} that were sent"
                )
        for put in shown.keys() - committed.keys():  # its receipt will tell whether it may be there
            if not same_rows(shown[put], sent(put), _days_of(shown[put]) if history.expiries else ALL_DAYS):
                self._violation(
                    f"{where}: {put}, not acknowledged yet, shows {shown[put].num_rows} rows: not the whole"
                )
        self._book.saw(
            dataset,
            history.incarnation,
            version,
            shown.keys(),
            judged=committed.keys(),
            some_expired=bool(history.expiries),
        )
        self._book.counts["rows compared"] += table.num_rows

    def _compare_history(self, dataset: str, entries: list[dict[str, Any]], committed: Iterable[Committed]) -> None:
        """A version for each append, each expiry, and nothing else; none is left out."""
        versions = [entry["version"] for entry in reversed(entries)]
        if versions != list(range(1, len(versions) + 1)):
            self._violation(f"{dataset}: its history has gaps: {versions}")
        said = {entry["version"]: (entry["appends"], entry["rows"]) for entry in entries if entry["kind"] == "append"}
        expected: dict[int, tuple[int, int]] = {}
        for done in committed:
            appends, rows = expected.get(done.version, (0, 0))
            expected[done.version] = (appends + 1, rows + sent(done.put).rows.num_rows)
        if said != expected:
            differing = sorted(version for version in said | expected if said.get(version) != expected.get(version))
            self._violation(f"{dataset}: appends in its history are not those that have receipts: versions {differing}")

    def _compare_receipts(self, client: timestore.Client, dataset: str, committed: Mapping[str, Committed]) -> None:
        for key, done in committed.items():
            if client.receipt(dataset, key).as_json() != done.receipt:
                self._violation(f"{dataset}: the receipt of {done.put} is another now")
        for key in self._book.abandoned(dataset):
            try:
                client.receipt(dataset, key)
                kind = "a receipt"
            except TimestoreError as exc:
                kind = exc.kind
                if exc.spec.repeatable:
                    raise
            if kind != "idempotency_abandoned":
                self._violation(f"{dataset}: {key} was abandoned, and has {kind} now")
        self._book.counts["receipts compared"] += len(committed)

    def _compare_manifest(
        self, client: timestore.Client, dataset: str, history: History, version: int, committed: Iterable[Committed]
    ) -> None:
        """The files of a version are those that the receipts named, without what has expired, and no others."""
        listed = {
            (item["id"], tuple(item["window"]), item["rows"], item["bytes"], item["added_version"])
            for item in client.manifest(dataset, version=version)
        }
        expected = {
            (file["id"], tuple(file["window"]), file["rows"], file["bytes"], done.version)
            for done in committed
            for file in done.receipt["files"]
            if parse_instant(file["window"][0]) in history.days_visible(done.version, version)
        }
        for item in listed ^ expected:
            self._violation(f"{dataset} at version {version}: {item} is {'unknown' if item in listed else 'missing'}")
        self._book.counts["manifests compared"] += 1

    def _compare_files(self, items: list[dict[str, Any]]) -> None:
        """Every file is there with its size; some are opened, and have their rows."""
        for item in items:
            path = path_of(item)
            if not path.is_file() or path.stat().st_size != item["bytes"]:
                self._violation(f"{path} is not there with its {item['bytes']} bytes")
        for item in self._dice.sample(items, k=min(OPENED, len(items))):
            if read_with_duckdb(path_of(item)).num_rows != item["rows"]:
                self._violation(f"{path_of(item)} has other rows than the manifest says")
        self._book.counts["files compared"] += len(items)


def path_of(item: dict[str, Any]) -> Path:
    """Return where the file of a manifest's item is."""
    return Path(unquote(urlparse(item["uri"]).path))


def by_put(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Cut a table into the rows of each put, in the order in which they were read."""
    ordered = table.take(pc.sort_indices(table, sort_keys=[("put", "ascending")]))  # stable
    runs = pc.run_end_encode(ordered["put"].combine_chunks())
    first = 0
    for put, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield put, ordered.slice(first, end - first)
        first = end


def same_rows(rows: pa.Table, content: Sent, days: set[datetime]) -> bool:
    """Say whether these are exactly the rows of these days that were sent, in their order; other columns are null."""
    expected = content.rows_of(days)
    if rows.num_rows == expected.num_rows == 0:
        return True
    if rows.num_rows != expected.num_rows or set(rows["site"].to_pylist()) - {content.site}:
        return False
    for name in (name for name in ("ts", "put", "number", *EXTRA_COLUMNS) if name in rows.column_names):
        if name not in expected.column_names:
            if rows[name].null_count != rows.num_rows:
                return False
        elif not rows[name].equals(expected[name]):
            return False
    return set(expected.column_names) <= set(rows.column_names)


def _history(client: timestore.Client, dataset: str) -> History:
    """Ask for it, of one incarnation."""
    described = client.describe(dataset)
    entries = client.history(dataset)
    return History(
        incarnation=described["incarnation"],
        oldest=described["oldest_version"],
        newest=described["version"],
        expiries=tuple(entry["version"] for entry in entries if entry["kind"] == "expire"),
    )


def _days_of(rows: pa.Table) -> set[datetime]:
    """Return the days that the rows of a put can be of: its old ones expire together."""
    days = set(pc.unique(pc.floor_temporal(rows["ts"], unit="day")).to_pylist())
    return ALL_DAYS if days & set(OLD_DAYS) else set(RECENT_DAYS)
