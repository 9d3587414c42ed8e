"""InfluxDB's line protocol over HTTP, as Telegraf and other agents write it."""

from __future__ import annotations

import gzip
import time
from datetime import UTC, datetime

import pyarrow as pa
import pytest

import timestore
from http_gateway.influx import parser, writing
from http_gateway.influx.answers import status_of
from tests.fixtures.data import cpu_table
from tests.fixtures.http_requests import Answer, Http, http_of
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.scraping import sample, scrape
from tests.fixtures.server import StartService
from timestore.errors import KINDS, error
from timestore_app.service import Service

T0 = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
TELEGRAF = {
    "content-type": "text/plain; charset=utf-8",
    "content-encoding": "gzip",
    "user-agent": "Telegraf/1.37.2",
    "authorization": "Token x",
}
LINES = (
    f"cpu,host=a,cpu=cpu0 usage_user=1.5,usage_idle=98i {T0 + 2}\n"
    f"cpu,host=b,cpu=cpu1 usage_user=2.5 {T0}\n"
    f'disk,path=/var\\ log used=18446744073709551615u,label="a \\"root\\"",ok=true {T0}\n'
)
NS = pa.timestamp("ns", "UTC")


@pytest.fixture(name="service")
def _service(start_service: StartService) -> Service:
    return start_service(http_port=0)


@pytest.fixture(name="http")
def _http(service: Service) -> Http:
    return http_of(service, TELEGRAF)


def write(http: Http, lines: str | bytes, path: str = "/api/v2/write?bucket=b&org=o", **headers: str) -> Answer:
    """Write lines as Telegraf does: compressed."""
    body = gzip.compress(lines.encode() if isinstance(lines, str) else lines)
    return http.request("POST", path, body, **headers)


def instants(*stamps: int) -> pa.Array:
    """Timestamps of a new dataset."""
    return pa.array(stamps, NS)


@pytest.mark.parametrize("path", ["/api/v2/write?bucket=b&org=o&precision=ns", "/write?db=telegraf&u=x&p=y&rp="])
def test_lines_become_datasets(http: Http, client: timestore.Client, path: str) -> None:
    """Each measurement of a request is one append to the dataset of its name, exactly as it was written."""
    answer = write(http, LINES, path)

    assert (answer.status, answer.body) == (204, b"")
    assert client.read("cpu").to_pydict() == {
        "time": instants(T0, T0 + 2).to_pylist(),
        "cpu": ["cpu1", "cpu0"],
        "host": ["b", "a"],
        "usage_user": [2.5, 1.5],
        "usage_idle": [None, 98],
    }
    disk = client.read("disk")
    assert disk.schema.types == [NS, pa.string(), pa.uint64(), pa.string(), pa.bool_()]
    assert disk.to_pylist()[0] | {"time": None} == {
        "time": None, "path": "/var log", "used": 2**64 - 1, "label": 'a "root"', "ok": True
    }  # fmt: skip
    assert [client.describe(name)["version"] for name in ("cpu", "disk")] == [1, 1]


def test_a_request_sent_again_is_stored_once(http: Http, client: timestore.Client) -> None:
    """The same lines are the same appends; other lines are others, and a key that is given is taken instead."""
    for _ in range(2):
        assert write(http, LINES).status == 204
    assert client.describe("cpu")["rows"] == 2
    found = scrape(http)
    counts = [found[sample("timestore_puts_total", door="influx", outcome=each)] for each in ("committed", "replayed")]
    assert counts == [2, 2]

    assert write(http, LINES, idempotency_key="mine").status == 204
    assert client.receipt("cpu", "mine").rows == 2
    conflict = write(http, f"cpu usage_user=9 {T0}", idempotency_key="mine")
    assert (conflict.status, conflict.json["code"]) == (409, "conflict")
    assert client.describe("cpu")["rows"] == 4


def test_a_key_needs_timestamps(http: Http, client: timestore.Client) -> None:
    """A line without a timestamp gets the server's; with an idempotency key that is refused: nobody could repeat it."""
    before = time.time_ns()
    assert write(http, "cpu v=1").status == 204
    [stamp] = client.read("cpu").column("time").cast(pa.int64()).to_pylist()
    assert before <= stamp <= time.time_ns()

    refused = write(http, f"cpu v=1 {T0}\ncpu v=2", idempotency_key="mine")
    assert refused.status == 400
    assert "line 2 has no timestamp" in refused.json["message"]


def test_the_dataset_lists_its_key(http: Http, client: timestore.Client) -> None:
    """Tags that a dataset's key names are the key of the rows, one append for each value; the others are columns."""
    first = pa.table({"ts": pa.array([T0 // 1000], pa.timestamp("us", "UTC")), "usage": [0.5]})
    client.append("cpu", first, key={"host": "z", "region": "eu"})
    lines = "".join(f"cpu,host={host},region=eu,cpu=c{n} usage={n} {T0 + n * 1000}\n" for n, host in enumerate("aba"))

    assert write(http, lines).status == 204

    rows = client.read("cpu", key={"host": "a"}, with_key=True)
    assert rows.column("usage").to_pylist() == [0.0, 2.0]
    assert rows.column("cpu").to_pylist() == ["c0", "c2"]
    assert rows.column("host").to_pylist() == ["a", "a"]
    assert rows.schema.field("ts").type == pa.timestamp("us", "UTC")
    assert client.describe("cpu")["version"] == 3

    refused = write(http, f"cpu,host=a,region=eu usage=1 {T0}\ncpu,host=a usage=1 {T0}")
    assert (refused.status, refused.json["line"]) == (422, 2)
    assert "has no tag 'region'" in refused.json["message"]
    refused = write(http, f"cpu,host=a,region=eu usage=1 {T0 + 1}")
    assert "line 1 does not fit the column 'ts'" in refused.json["message"]


@pytest.mark.parametrize("how", ["query", "header"])
def test_a_request_names_the_key_of_a_new_dataset(http: Http, client: timestore.Client, how: str) -> None:
    """Where there is no dataset yet, a query parameter or a header says which tags make its key."""
    path = "/api/v2/write" + ("?key_tag=site&key_tag=host" if how == "query" else "")
    headers = {"x_timestore_key_tags": "site, host"} if how == "header" else {}
    lines = f"cpu,host=a,site=1,cpu=c v=1 {T0}\ncpu,host=b,site=1 v=2 {T0}"

    assert write(http, lines, path, idempotency_key="mine", **headers).status == 204

    assert client.describe("cpu")["key_names"] == ["host", "site"]
    assert client.read("cpu", key={"host": "b"}).column_names == ["time", "cpu", "v"]
    assert write(http, lines).status == 204  # from now on the dataset says it
    contradiction = write(http, lines, "/api/v2/write?key_tag=cpu")
    assert contradiction.status == 422


def test_order_and_duplicates(http: Http, client: timestore.Client) -> None:
    """Lines are sorted by time unless the dataset keeps any order, and equal points are all kept."""
    schema = pa.schema([("time", NS), ("v", pa.float64())])
    client.create_dataset("free", schema, order="any")
    stamps = [T0 + 5, T0, T0 + 5, T0]
    lines = "".join(f"{name} v={n} {stamp}\n" for n, stamp in enumerate(stamps) for name in ("free", "ordered"))

    assert write(http, lines).status == 204

    assert client.read("ordered").column("v").to_pylist() == [1.0, 3.0, 0.0, 2.0]
    assert client.read("free").column("v").to_pylist() == [0.0, 1.0, 2.0, 3.0]


def test_precision(http: Http, client: timestore.Client) -> None:
    """Timestamps count the unit that the request names."""
    for precision, stamp in (("s", T0 // 10**9), ("ms", T0 // 10**6), ("us", T0 // 1000), ("ns", T0)):
        assert write(http, f"{precision} v=1 {stamp}", f"/api/v2/write?precision={precision}").status == 204
        assert client.read(precision).column("time")[0].as_py() == datetime(2026, 1, 1, tzinfo=UTC)
    refused = write(http, "cpu v=1 1", "/write?precision=d")
    assert (refused.status, "precision 'd'" in refused.json["error"]) == (400, True)


def test_a_line_that_is_none_stores_nothing(http: Http, client: timestore.Client) -> None:
    """A request that is not line protocol to its end stores nothing of it, and says where it is wrong."""
    for path in ("/api/v2/write", "/write"):
        refused = write(http, LINES + "cpu,host v=1", path)
        assert refused.status == 400
        body = refused.json
        assert "line 4, position 9" in (body.get("message") or body["error"])
    assert body == {"error": body["error"]}
    assert refused.headers["x-influxdb-error"] == body["error"]
    cut = http.request("POST", "/write", gzip.compress(LINES.encode())[:-9])
    assert cut.status == 400
    assert list(client.datasets()) == []


def test_one_measurement_does_not_keep_the_others(http: Http, client: timestore.Client) -> None:
    """Each append stands for itself: what a dataset refuses keeps nothing else from being stored."""
    assert write(http, f"disk used=1.5 {T0}\n").status == 204
    lines = LINES + f'a.b v=1 {T0}\nlast v="x" {T0}\n'

    refused = write(http, lines)

    message = refused.json["message"]
    assert refused.status == 422
    assert "2 appends were stored, 2 refused: 'disk': " in message
    assert "'a.b': the dataset name 'a.b' is not allowed" in message
    assert [each["dataset"] for each in client.datasets()] == ["cpu", "disk", "last"]


def test_an_outage_asks_for_the_request_again(start_service: StartService, proxy: PostgresProxy) -> None:
    """When the catalog fails halfway, the answer is a 503; sent again, the request is stored once, and whole."""
    service = start_service(http_port=0, catalog_dsn=proxy.dsn)
    http = http_of(service, TELEGRAF)
    with timestore.connect(service.url) as client:
        assert write(http, f"warm v=1 {T0}").status == 204
        proxy.cut_once(b"INSERT INTO intents", answer=False)
        answer = write(http, LINES)
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        for _ in range(2):
            assert write(http, LINES).status == 204
        assert [client.describe(name)["rows"] for name in ("cpu", "disk")] == [2, 1]


def test_a_busy_server_asks_to_wait(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server at its limit says so by 429 and Retry-After; agents of InfluxDB 1 drop what gets a 4xx, so by 503."""
    monkeypatch.setattr(writing, "LARGE_AT_ONCE", 0)
    monkeypatch.setattr(writing, "LARGE_TIMEOUT_S", 0.0)
    monkeypatch.setattr(parser, "LARGE_CELLS", 0)
    http = http_of(start_service(http_port=0), TELEGRAF)

    for path, status in (("/api/v2/write", 429), ("/write", 503)):
        answer = write(http, LINES, path)
        assert (answer.status, answer.headers["retry-after"]) == (status, "1")


@pytest.mark.parametrize("kind", KINDS)
def test_statuses_say_what_to_do(kind: str) -> None:
    """What may be repeated is a 429 or 5xx, which agents repeat; what may not is a 4xx, which they drop."""
    status = status_of(error(kind, "x"))
    assert (status == 429 or status >= 500) is KINDS[kind].repeatable


def test_large_requests_are_bounded(http: Http, client: timestore.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of several blocks is one append a measurement; one beyond the limit is refused, and stores nothing."""
    rows = 60_000
    lines = "".join(f"cpu,host=h{n % 100} usage={n / 7},count={n}i {T0 + n}\n" for n in range(rows)).encode()
    assert len(lines) > 3 << 20
    assert write(http, lines).status == 204
    description = client.describe("cpu")
    assert (description["rows"], description["version"]) == (rows, 1)
    assert client.read("cpu").column("count").to_pylist() == list(range(rows))

    monkeypatch.setattr(writing, "MAX_BODY_BYTES", 1 << 20)
    refused = write(http, lines)
    assert (refused.status, refused.json["code"]) == (413, "request too large")
    assert client.describe("cpu")["version"] == 1


def test_what_agents_ask_first(http: Http) -> None:
    """Agents look whether a server is there, and create their database, before they write."""
    assert http.get("/ping").status == 204
    assert http.request("HEAD", "/ping").headers["x-influxdb-version"].startswith("timestore-")
    health = http.get("/health")
    assert (health.status, health.json["status"]) == (200, "pass")
    created = http.request("POST", "/query", b"q=CREATE+DATABASE+%22telegraf%22")
    assert (created.status, created.json) == (200, {"results": [{"statement_id": 0}]})
    refused = http.request("POST", "/query?q=DROP%20DATABASE%20x")
    assert refused.status == 422


def test_lines_meet_rows_of_flight(http: Http, client: timestore.Client) -> None:
    """A dataset that Flight has made takes lines whose columns fit, and refuses others."""
    client.append("cpu", cpu_table(10))
    assert write(http, f"cpu,host=a usage=0.5,errors=1i,up=true {T0}").status == 204
    assert client.describe("cpu")["rows"] == 11
    refused = write(http, f"cpu,host=a usage=1i {T0}")
    assert refused.status == 422
    assert "usage" in refused.json["message"]
