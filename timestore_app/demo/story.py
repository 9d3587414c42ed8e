"""What the demo does, step by step, and what it prints."""

from __future__ import annotations

import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import timestore
from timestore.client import Client
from timestore.receipt import Receipt
from timestore_app.demo.read_back import Numbers, local_path, numbers_in_files, numbers_of, same_rows
from timestore_app.demo.server_process import ServerProcess
from timestore_app.demo.source import Put, Source, load_sources

MIB = 1 << 20

Manifest = list[dict[str, Any]]


class DemoFailedError(Exception):
    """Something that Timestore promises did not hold."""


def tell(console: Console, *, data_dir: Path, storage_url: str | None) -> None:
    """Run the whole demo; raises ``DemoFailedError``, ``ServerFailedError`` or a ``TimestoreError``."""
    story = _Story(console)
    sources = load_sources()
    story.step("Start a server")
    started = time.monotonic()
    with ServerProcess(data_dir=data_dir, storage_url=storage_url) as server:
        story.say(f"timestore {' '.join(server.arguments)}")
        story.say(f"ready at {server.url} after {time.monotonic() - started:.1f} s, catalog included")
        with timestore.connect(server.url) as client:
            story.send(client, sources)
            story.repeat(client, sources[0].puts[0])
            manifests = {source.dataset: client.manifest(source.dataset) for source in sources}
            story.show_manifests(manifests)
            story.read_back(client, sources, manifests)
        story.step("Stop the server")
        story.say(f"SIGTERM: it finished what was running and exited with 0 after {server.stop():.1f} s")
    story.what_next(manifests, data_dir=data_dir, storage_url=storage_url)


class _Story:
    """Prints steps and tables, as plain text where nobody is looking at a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0

    def step(self, title: str) -> None:
        self._steps += 1
        self._console.print(f"\n[bold cyan]{self._steps}. {title}[/]", highlight=False)

    def say(self, text: str) -> None:
        self._console.print(f"   {text}", markup=False, highlight=False, soft_wrap=True)

    def send(self, client: Client, sources: tuple[Source, ...]) -> None:
        self.step("Send a year: weather by airport, and flights, which are not in order")
        table = _table("dataset", "key", right=("rows", "files", "version", "seconds", "receipt"))
        fresh = 0
        for source in sources:
            for put in source.puts:
                started = time.monotonic()
                receipt = _append(client, put)
                _check(receipt.rows == put.rows.num_rows, f"{put.dataset}: the receipt has {receipt.rows} rows")
                fresh += 0 if receipt.replayed else receipt.rows
                table.add_row(*_receipt_cells(put, receipt, time.monotonic() - started))
        self._console.print(table)
        self.say(f"rows added by this run: {fresh:,}")

    def repeat(self, client: Client, put: Put) -> None:
        self.step("Send something twice, as a client must that got no answer")
        version = client.describe(put.dataset)["version"]
        receipt = _append(client, put)
        _check(receipt.replayed, "a repeated put was not recognised")
        self.say(f"the same rows, the same idempotency key: the receipt of version {receipt.version}, replayed")
        changed = put.rows.slice(24)
        try:
            client.append(put.dataset, changed, key=put.key, idempotency_key=put.idempotency_key)
        except timestore.TimestoreError as refusal:
            _check(refusal.kind == "idempotency_conflict", f"refused for another reason: {refusal}")
            self.say(f"other rows with that key: refused, {refusal}")
        else:
            raise DemoFailedError("other rows were taken under an idempotency key that is taken")
        _check(client.describe(put.dataset)["version"] == version, "a repetition made a new version")

    def show_manifests(self, manifests: dict[str, Manifest]) -> None:
        self.step("What the manifests list: files by key and month")
        headings = [f"{name} {what}" for name in manifests for what in ("files", "rows", "MiB")]
        table = _table("month", right=tuple(headings))
        months: dict[str, dict[str, Manifest]] = defaultdict(lambda: defaultdict(list))
        for name, items in manifests.items():
            for item in items:
                months[item["window"][0][:7]][name].append(item)
        shown = sorted(months.items())
        for month, by_name in (*shown[:2], ("...", {}), *shown[-2:], ("all", manifests)):
            table.add_row(month, *(cell for name in manifests for cell in _manifest_cells(by_name.get(name, []))))
        self._console.print(table)

    def read_back(self, client: Client, sources: tuple[Source, ...], manifests: dict[str, Manifest]) -> None:
        """Compare CSV files, manifests, data files and Flight."""
        self.step("Read everything back and compare")
        agree = True
        for source in sources:
            table = _table(
                source.dataset, right=("rows", f"known {source.measure}", f"sum of {source.measure}", "agrees")
            )
            for place, numbers, agrees in _readings(client, source, manifests[source.dataset]):
                table.add_row(place, *_number_cells(numbers), "" if agrees is None else _verdict(agrees))
                agree = agree and agrees is not False
            self._console.print(table)
        self.say("over Arrow Flight every value of every row was compared")
        _check(agree, "the data did not come back as it was sent")

    def what_next(self, manifests: dict[str, Manifest], *, data_dir: Path, storage_url: str | None) -> None:
        self.step("What next")
        self.say("run the demo again: everything is replayed, nothing is added")
        serve = f"{_short(_program('timestore'))} serve --data-dir {_short(data_dir)}"
        storage = "" if storage_url is None else f" --storage-url {shlex.quote(storage_url)}"
        self.say(f"serve this data:  {serve}{storage}")
        largest = max((item for items in manifests.values() for item in items), key=lambda item: int(item["rows"]))
        path = local_path(largest["uri"])
        if path is not None:
            query = f'import duckdb; print(duckdb.connect("{_from_here(path)}", read_only=True).sql("FROM data"))'
            self.say(f"open a data file: {_short(_program('python'))} -c {shlex.quote(query)}")


def _readings(client: Client, source: Source, manifest: Manifest) -> Iterator[tuple[str, Numbers, bool | None]]:
    """Take a dataset's numbers from everywhere, each with whether it agrees with the source."""
    expected = numbers_of(source.rows, source.measure)
    yield "the CSV file", expected, None
    listed = sum(item["rows"] for item in manifest)
    yield "the manifest", Numbers(listed), listed == expected.rows
    paths = [local_path(item["uri"]) for item in manifest]
    if None not in paths:  # else the files are in an object store
        found = numbers_in_files([path for path in paths if path is not None], source.measure)
        yield "DuckDB on the files", found, found == expected
    read = client.read(source.dataset, with_key=True)
    yield "Arrow Flight", numbers_of(read, source.measure), same_rows(read, source.rows)


def _append(client: Client, put: Put) -> Receipt:
    return client.append(put.dataset, put.rows, key=put.key, idempotency_key=put.idempotency_key, create=put.create)


def _table(*left: str, right: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True, show_edge=False, header_style="bold")
    for heading in left:
        table.add_column(heading)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def _receipt_cells(put: Put, receipt: Receipt, seconds: float) -> list[str]:
    key = " ".join(f"{name}={value}" for name, value in put.key.items()) or "-"
    state = "replayed" if receipt.replayed else "new"
    return [
        put.dataset,
        key,
        f"{receipt.rows:,}",
        str(receipt.files_total),
        str(receipt.version),
        f"{seconds:.2f}",
        state,
    ]


def _manifest_cells(items: Manifest) -> list[str]:
    if not items:
        return ["", "", ""]
    size = sum(item["bytes"] for item in items) / MIB
    return [str(len(items)), f"{sum(item['rows'] for item in items):,}", f"{size:.1f}"]


def _number_cells(numbers: Numbers) -> list[str]:
    return ["" if number is None else f"{number:,}" for number in (numbers.rows, numbers.known, numbers.total)]


def _verdict(agrees: bool) -> str:
    return "[green]yes[/]" if agrees else "[bold red]NO[/]"


def _program(name: str) -> Path:
    """Return the path of a program of this environment."""
    return Path(sys.executable).with_name(name)


def _short(path: Path) -> str:
    """Spell a path for a shell."""
    return shlex.quote(str(_from_here(path)))


def _from_here(path: Path) -> Path:
    """Return a path relative to the working directory, if it lies in it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _check(holds: bool, failure: str) -> None:
    if not holds:
        raise DemoFailedError(failure)
