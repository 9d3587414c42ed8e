"""Who may do what by HTTP is what it is by Flight: the same tokens, certificates, grants and limits."""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from pathlib import Path

import pytest

from tests.fixtures.certificates import Authority
from tests.fixtures.data import cpu_table
from tests.fixtures.http_requests import ARROW, NDJSON, PARQUET, Answer, Http, stream_of
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.secured import Secured
from tests.fixtures.server import StartService
from timestore_app.exposure import ExposedError, check_exposure
from timestore_app.self_signed import create_self_signed
from timestore_app.settings import Settings

ROW = b'{"ts":"2026-01-01T00:00:00Z","n":1}\n'
READS = ("", "/cpu", "/cpu/rows", "/cpu/manifest", "/cpu/history", "/cpu/receipts/a")


def _as(secured: Secured, authorization: str | None) -> Http:
    assert secured.service.http_url is not None
    assert secured.service.http_url.startswith("https://")
    trusted = ssl.create_default_context(cadata=secured.root_certs.decode())
    return Http(secured.service.http_url, {"authorization": authorization} if authorization else {}, tls=trusted)


def _with(secured: Secured, *grants: str) -> Http:
    return _as(secured, f"Bearer {secured.token(*grants)}")


def _kind(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["kind"]


@pytest.mark.parametrize("authorization", [None, "Bearer x", "Basic x", "Digest x", "Bearer tst_x_y"])
def test_nobody(secured: Secured, authorization: str | None) -> None:
    """Without credentials that are known here, no route tells anything but that; only the documents are public."""
    nobody = _as(secured, authorization)
    for path in READS:
        answer = nobody.get(f"/v1/datasets{path}")
        assert _kind(answer) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert _kind(nobody.append("cpu", ROW, NDJSON, "?expected_rows=x")) == (401, "unauthenticated")
    assert nobody.get("/docs").status == nobody.get("/openapi.json").status == 200


def test_spellings(secured: Secured) -> None:
    """A token goes as Bearer, or as the password of Basic, whatever the user."""
    token = secured.token("read:cpu")
    basic = b64encode(f"anybody:{token}".encode()).decode()
    for authorization in (f"Bearer {token}", f"bearer {token}", f"Basic {basic}"):
        assert _as(secured, authorization).get("/v1/datasets/cpu").status == 200


def test_grants(secured: Secured) -> None:
    """Each route needs the grant that its action needs; what one may not know of is denied, be it there or not."""
    reader, producer = _with(secured, "read:cpu"), _with(secured, "append:made*", "create:made*")
    assert [reader.get(f"/v1/datasets{path}").status for path in READS] == [200] * len(READS)
    for name in ("secret", "nowhere"):
        assert [_kind(reader.get(f"/v1/datasets/{name}{path.removeprefix('/cpu')}")) for path in READS[1:]] == [
            (403, "permission_denied")
        ] * 5
    assert _kind(reader.append("cpu", ROW, NDJSON)) == (403, "permission_denied")
    assert [item["dataset"] for item in reader.get("/v1/datasets").json["items"]] == ["cpu"]

    assert producer.append("made", ROW, NDJSON, idempotency_key="a").status == 201
    assert producer.get("/v1/datasets/made/receipts/a").json["rows"] == 1
    assert producer.get("/v1/datasets/made").status == 200
    assert _kind(producer.get("/v1/datasets/made/rows")) == (403, "permission_denied")
    only_append = _with(secured, "append:*")
    assert _kind(only_append.append("fresh", ROW, NDJSON)) == (403, "permission_denied")
    assert only_append.append("made", ROW, NDJSON, idempotency_key="a").status == 200


@pytest.mark.parametrize("content_type", [NDJSON, PARQUET, ARROW])
def test_a_refusal_before_the_body(secured: Secured, content_type: str) -> None:
    """A client that asks before it sends a body is refused before it has sent any of it."""
    address = _with(secured, "read:*")
    trusted = ssl.create_default_context(cadata=secured.root_certs.decode())
    head = f"POST /v1/datasets/cpu/append HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secured.made[-1]}\r\n"
    head += f"Content-Type: {content_type}\r\nContent-Length: 999999999\r\nExpect: 100-continue\r\n\r\n"
    with (
        socket.create_connection((address.host, address.port), timeout=60) as raw,
        trusted.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(head.encode())
        assert connection.recv(12) == b"HTTP/1.1 403"  # and not 100 before


def test_a_revoked_token(secured: Secured) -> None:
    """A token that was revoked is nobody's."""
    token = secured.token("append:cpu")
    secured.revoke(token)
    assert _kind(_as(secured, f"Bearer {token}").append("cpu", ROW, NDJSON)) == (401, "unauthenticated")


def test_puts_at_once(secured: Secured) -> None:
    """A principal's limit of running puts counts both doors together, and is told with a time to come again."""
    token = secured.token("append:*", "create:*", max_running_puts=1)
    address = _as(secured, f"Bearer {token}")
    with secured.client(token) as client:
        client.append("limited", cpu_table(10))
    put = RawPut(
        secured.service.url,
        command(dataset="limited", end="eof"),
        cpu_table(1).schema,
        {"authorization": f"Bearer {token}"},
        tls_root_certs=secured.root_certs,
    )
    assert put.answer() is not None
    refused = address.append("limited", stream_of(cpu_table(1)), ARROW)
    assert _kind(refused) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    put.finish()


def test_client_certificates(start_service: StartService, tmp_path: Path) -> None:
    """Where client certificates are asked for, one of the authority is needed, and its name is who calls."""
    authority = Authority()
    create_self_signed(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", hosts=["127.0.0.1"], days=2)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "grants.toml").write_text('[grants]\n"cert:feeder" = ["append:cpu", "create:cpu", "read:cpu"]\n')
    service = start_service(
        http_port=0,
        tls_cert=tmp_path / "cert.pem",
        tls_key=tmp_path / "key.pem",
        tls_client_ca=tmp_path / "ca.pem",
        grants_file=tmp_path / "grants.toml",
    )
    assert service.http_url is not None

    def known_as(*names: str) -> Http:
        certificate, key = authority.issue(*names)
        (tmp_path / "client.pem").write_bytes(certificate + key)
        context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        context.load_cert_chain(tmp_path / "client.pem")
        return Http(str(service.http_url), tls=context)

    table = cpu_table(10)
    assert known_as("feeder").append("cpu", stream_of(table), ARROW).status == 201
    assert known_as("other", "feeder").get("/v1/datasets/cpu/rows?format=arrow").table.equals(table)
    assert _kind(known_as("feeder", "other").append("cpu", ROW, NDJSON)) == (403, "permission_denied")
    with pytest.raises(OSError, match=r"certificate|reset|Broken|closed|alert"):
        Http(service.http_url, tls=ssl.create_default_context(cafile=tmp_path / "cert.pem")).get("/docs")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_network(host: str) -> None:
    """An address of HTTP that others can reach needs what one of Flight needs, and is no address while it is off."""
    with pytest.raises(ExposedError, match=host):
        check_exposure(Settings.load(None, {"http_port": 0, "http_host": host}))
    check_exposure(Settings.load(None, {"http_host": host}))
    check_exposure(
        Settings.load(None, {"http_port": 0, "http_host": host, "require_auth": True, "insecure_no_tls": True})
    )


def test_the_same_append_by_both_doors(secured: Secured) -> None:
    """One principal or another, by one door or the other: the same key and rows are one append."""
    table = cpu_table(10)
    with secured.client(secured.token("append:*", "create:*")) as client:
        client.append("both", table, idempotency_key="a")
    assert _with(secured, "append:both").append("both", stream_of(table), ARROW, idempotency_key="a").status == 200
