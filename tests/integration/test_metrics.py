"""What a server says of itself: metrics, and probes."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import timestore
from http_gateway import monitoring_routes
from storage.local import LocalStore
from storage.marker import MARKER_PATH
from tests.fixtures.data import cpu_table
from tests.fixtures.http_requests import Http, http_of
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.scraping import sample, scrape
from tests.fixtures.server import StartService, wait_until
from timestore.errors import KINDS, TimestoreError
from timestore_app.service import Service
from writers.data_file import DuckDBWriter, FinishedFile
from writers.put_outcomes import COMMITTED, REPLAYED, Stage

REFERENCE = Path("docs/reference/metrics.md")
DASHBOARD = Path("examples/grafana/timestore.json")
BOUNDED = {
    "door": {"flight", "http", "influx"},
    "outcome": {COMMITTED, REPLAYED, "refused", *KINDS},
    "stage": {str(stage) for stage in Stage},
    "pool": {"read", "write"},
    "state": {"busy", "idle"},
    "method": {"GET", "POST", "other"},
}


@pytest.fixture(name="service")
def _service(start_service: StartService) -> Service:
    return start_service(http_port=0)


@pytest.fixture(name="http")
def _http(service: Service) -> Http:
    return http_of(service)


def test_puts_are_counted(client: timestore.Client, http: Http) -> None:
    """Each put is counted once, by how it ended, with its rows, its bytes, its time, and the time of each stage."""
    sent = cpu_table(20_000)
    for _ in range(2):
        client.append("cpu", sent, idempotency_key="a")
    with pytest.raises(TimestoreError, match="idempotency_conflict"):
        client.append("cpu", cpu_table(10), idempotency_key="a")
    with pytest.raises(TimestoreError, match="schema_mismatch"):
        client.append("cpu", sent.drop_columns(["ts"]))

    found = scrape(http)

    for outcome, rows in (
        (COMMITTED, 20_000),
        (REPLAYED, 20_000),
        ("idempotency_conflict", 10),
        ("schema_mismatch", 0),
    ):
        labels = {"door": "flight", "outcome": outcome}
        assert found[sample("timestore_puts_total", **labels)] == 1, outcome
        assert found[sample("timestore_put_rows_total", **labels)] == rows, outcome
        assert (found[sample("timestore_put_bytes_total", **labels)] >= rows * 8) is True
    assert found[sample("timestore_put_seconds_count", door="flight", outcome=COMMITTED)] == 1
    assert found[sample("timestore_put_seconds_count", door="flight", outcome="refused")] == 2
    stages = {stage: found[sample("timestore_put_stage_seconds_sum", door="flight", stage=stage)] for stage in Stage}
    assert all(seconds > 0 for seconds in stages.values()), stages
    whole = sum(
        found[sample("timestore_put_seconds_sum", door="flight", outcome=each)] for each in (COMMITTED, REPLAYED)
    )
    assert stages[Stage.COMMIT] < whole
    for stage in (Stage.WRITE, Stage.UPLOAD, Stage.COMMIT):  # by the put that stored something, alone
        assert found[sample("timestore_put_stage_seconds_count", door="flight", stage=stage)] == 1


def test_the_state_is_asked_at_a_scrape(service: Service, client: timestore.Client, http: Http) -> None:
    """Running puts and the memory of their rows are those of the moment, and nothing is left of them afterwards."""
    limits = scrape(http)
    assert limits[sample("timestore_running_puts_limit")] == 128
    assert limits[sample("timestore_buffered_bytes_limit")] == 256 << 20
    put = RawPut(service.url, command(dataset="cpu", idempotency_key="a"), cpu_table(20_000).schema)
    put.send(cpu_table(20_000))

    def holds_rows() -> bool:
        found = scrape(http)
        return found[sample("timestore_running_puts")] == 1 and found[sample("timestore_buffered_bytes")] > 100_000

    wait_until(holds_rows)
    put.mark_end(20_000)
    put.finish()

    def is_empty() -> bool:
        found = scrape(http)
        return found[sample("timestore_running_puts")] == 0 and found[sample("timestore_buffered_bytes")] == 0

    wait_until(is_empty)
    client.append("cpu", cpu_table(1))
    wait_until(lambda: scrape(http)[sample("timestore_writers", state="busy")] == 0)
    found = scrape(http)
    assert found[sample("timestore_writer_jobs_waiting")] == 0
    assert found[sample("timestore_postgres_requests_total", pool="write")] > 0
    assert found[sample("process_resident_memory_bytes")] > 0


def test_busy_writers_show(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers at work and files that wait for one are told apart."""
    service = start_service(http_port=0, writer_threads=1)
    go_on = threading.Event()
    write = DuckDBWriter.write

    def hang(writer: DuckDBWriter, *arguments: Any) -> FinishedFile:
        go_on.wait(60)
        return write(writer, *arguments)

    def writers() -> tuple[float, ...]:
        found = scrape(http_of(service))
        states = [found[sample("timestore_writers", state=state)] for state in ("busy", "idle")]
        return (*states, found[sample("timestore_writer_jobs_waiting")])

    monkeypatch.setattr(DuckDBWriter, "write", hang)
    with ThreadPoolExecutor(3) as clients, timestore.connect(service.url) as client:
        try:
            puts = [clients.submit(client.append, f"cpu{number}", cpu_table(10)) for number in range(3)]
            wait_until(lambda: writers() == (1, 0, 2))
        finally:
            go_on.set()
        assert [put.result().rows for put in puts] == [10, 10, 10]
    wait_until(lambda: writers() == (0, 1, 0))


def test_servers_of_a_process_count_for_themselves(start_service: StartService) -> None:
    """Two servers in one process have metrics of their own."""
    first, second = start_service(http_port=0), start_service(http_port=0)
    with timestore.connect(first.url) as client:
        client.append("cpu", cpu_table(10))
    committed = sample("timestore_puts_total", door="flight", outcome=COMMITTED)
    assert [scrape(http_of(each))[committed] for each in (first, second)] == [1, 0]


def test_labels_are_bounded(client: timestore.Client, http: Http) -> None:
    """Whatever clients name, labels have few values: no dataset, key or path of theirs is among them."""
    for number in range(3):
        client.append(f"cpu{number}", cpu_table(10), key={"site": f"s{number}"}, idempotency_key=f"k{number}")
        http.get(f"/nothing/here{number}")
        http.get(f"/v1/datasets/cpu{number}")
        http.request(f"FETCH{number}", "/healthz")

    last = sample("timestore_http_requests_total", method="other", route="/healthz", status="405")
    wait_until(lambda: scrape(http).get(last) == 3)
    found = scrape(http)

    labels = {pair for name, pairs in found if name.startswith("timestore_") for pair in pairs}
    for label, value in labels:
        if label in BOUNDED:
            assert value in BOUNDED[label], (label, value)
        else:
            assert label in {"le", "route", "status", "version"}
    routes = {value for label, value in labels if label == "route"}
    assert {"unmatched", "/v1/datasets/{dataset}"} <= routes
    assert not any("cpu0" in route or "here" in route for route in routes)
    assert found[sample("timestore_http_requests_total", method="GET", route="unmatched", status="404")] == 3
    assert (
        found[sample("timestore_http_requests_total", method="GET", route="/v1/datasets/{dataset}", status="200")] == 3
    )


def test_metrics_are_in_the_format_that_is_asked_for(http: Http) -> None:
    """Prometheus may ask for text or for OpenMetrics."""
    plain = http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    modern = http.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.body.endswith(b"# EOF\n")


def test_the_dashboard_shows_what_there_is(client: timestore.Client, http: Http) -> None:
    """Every metric that a query of the dashboard names is in a scrape, and so is every label it asks for."""
    client.append("cpu", cpu_table(10))
    wait_until(lambda: any(name == "timestore_http_requests_total" for name, _ in scrape(http)))
    found = scrape(http)
    names = {name for name, _ in found}
    labels = {label for name, pairs in found for label, _ in pairs}
    dashboard = json.loads(DASHBOARD.read_text())

    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]

    assert len(queries) > 15
    for query in queries:
        asked = set(re.findall(r"\b(?:timestore|process)_[a-z_]+", query))
        assert asked, query
        assert asked <= names, asked - names
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r", *", group)}
        assert grouped | set(re.findall(r"(\w+)=~?\"", query)) <= labels | {"instance", "job"}, query
    shown = {name for query in queries for name in re.findall(r"\btimestore_[a-z_]+", query)}
    ours = {name for name in names if name.startswith("timestore_")}
    left_out = {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours - shown}
    assert left_out - {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} <= {"timestore_build_info"}


def test_the_reference_names_what_there_is(http: Http) -> None:
    """The reference has every metric of a server, with its labels, and no other."""
    wait_until(lambda: any(name == "timestore_http_requests_total" for name, _ in scrape(http)))
    found: dict[str, set[str]] = {}
    for name, pairs in scrape(http):
        labels = found.setdefault(re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name), set())
        labels |= {label for label, _ in pairs} - {"le"}
    page = REFERENCE.read_text()
    rows = re.findall(r"^\| `(timestore_\w+)` \| ([^|]*)\|", page, re.M)

    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}

    assert documented == {name: labels for name, labels in found.items() if name.startswith("timestore_")}


def test_probes(http: Http) -> None:
    """A server that lives and can work says so."""
    assert (http.get("/healthz").status, http.get("/readyz").status) == (200, 200)
    assert http.get("/readyz").json == {"status": "ready"}


def test_not_ready_without_storage(http: Http, tmp_path: Path) -> None:
    """A storage that has gone makes a server not ready, which says why, and lives."""
    (tmp_path / "data" / MARKER_PATH).rename(tmp_path / "marker")

    answer = http.get("/readyz")

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["details"] == {"storage": "storage_unavailable"}
    assert http.get("/healthz").status == 200
    (tmp_path / "marker").rename(tmp_path / "data" / MARKER_PATH)
    assert http.get("/readyz").status == 200


def test_not_ready_while_storage_hangs(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that does not answer holds up no probe, however many ask."""
    go_on = threading.Event()
    asked = []
    stat = LocalStore.stat

    def hang(store: LocalStore, path: str) -> object:
        asked.append(path)
        go_on.wait(60)
        return stat(store, path)

    monkeypatch.setattr(LocalStore, "stat", hang)
    monkeypatch.setattr(monitoring_routes, "READY_TIMEOUT_S", 0.2)
    try:
        answers = [http.get("/readyz") for _ in range(3)]
    finally:
        go_on.set()
    assert [answer.status for answer in answers] == [503, 503, 503]
    assert answers[0].json["details"] == {"storage": "storage_unavailable"}
    assert asked.count(MARKER_PATH) == 1
    monkeypatch.undo()
    wait_until(lambda: http.get("/readyz").status == 200)


def test_not_ready_without_postgres(start_service: StartService, proxy: PostgresProxy) -> None:
    """A Postgres that answers nothing makes a server not ready within the time of a probe; metrics are there still."""
    http = http_of(start_service(http_port=0, catalog_dsn=proxy.dsn))
    proxy.fall_silent()
    try:
        answer = http.get("/readyz")
        assert (answer.status, answer.json["kind"]) == (503, "catalog_unavailable")
        assert sample("timestore_accepting_puts") in scrape(http)
    finally:
        proxy.talk_again()
    wait_until(lambda: http.get("/readyz").status == 200)


def test_not_ready_while_it_stops(service: Service, http: Http) -> None:
    """A server that lets its last puts finish is not ready, and still says so."""
    put = RawPut(service.url, command(dataset="cpu", idempotency_key="a"), cpu_table(1).schema)
    assert put.answer() is not None
    stopping = threading.Thread(target=service.drain)
    stopping.start()
    try:
        wait_until(lambda: http.get("/readyz").status == 503)
        assert http.get("/readyz").json["details"] == {"puts": "shutting_down"}
        assert scrape(http)[sample("timestore_accepting_puts")] == 0
    finally:
        put.mark_end(0)
        put.finish()
        stopping.join(60)


def test_not_ready_when_fenced(start_service: StartService, tmp_path: Path) -> None:
    """A server whose storage is another catalog's is not ready, and says so."""
    first = start_service()
    first.close()
    marker = tmp_path / "data" / MARKER_PATH
    fields = json.loads(marker.read_text()) | {"catalog_id": "12345678-1234-5678-1234-567812345678"}
    marker.chmod(0o644)
    marker.write_text(json.dumps(fields))
    http = http_of(start_service(http_port=0))
    answer = http.get("/readyz")
    assert (answer.status, answer.json["kind"]) == (503, "fenced")
    assert scrape(http)[sample("timestore_fenced")] == 1


def test_without_the_door_nothing_listens(start_service: StartService) -> None:
    """A server without an HTTP port has no probes either."""
    service = start_service()
    assert service.http_url is None
