"""Who may watch over a server, and write lines to it, where callers are authenticated."""

from __future__ import annotations

import ssl
from base64 import b64encode

from tests.fixtures.http_requests import Http
from tests.fixtures.secured import Secured

LINE = b"lines v=1 1767225600000000000"


def _as(secured: Secured, authorization: str | None) -> Http:
    assert secured.service.http_url is not None
    trusted = ssl.create_default_context(cadata=secured.root_certs.decode())
    return Http(secured.service.http_url, {"authorization": authorization} if authorization else {}, tls=trusted)


def test_who_may_watch(secured: Secured) -> None:
    """Probes are for everybody; metrics are for whoever is known, whatever the grants."""
    nobody = _as(secured, None)
    assert (nobody.get("/healthz").status, nobody.get("/readyz").status, nobody.get("/ping").status) == (200, 200, 204)
    assert nobody.get("/metrics").status == _as(secured, "Bearer x").get("/metrics").status == 401
    assert _as(secured, f"Bearer {secured.token('read:nothing')}").get("/metrics").status == 200


def test_who_may_write_lines(secured: Secured) -> None:
    """Agents' tokens are those of other clients, however they send them, and grants are asked for each dataset."""
    token = secured.token("append:lines", "create:lines")
    basic = b64encode(f"telegraf:{token}".encode()).decode()
    for authorization in (f"Token {token}", f"Bearer {token}", f"Basic {basic}"):
        assert _as(secured, authorization).request("POST", "/api/v2/write", LINE).status == 204
    nobody = _as(secured, None)
    assert nobody.request("POST", f"/write?db=x&u=me&p={token}", LINE).status == 204

    refused = nobody.request("POST", "/api/v2/write", LINE)
    assert (refused.status, refused.json["code"]) == (401, "unauthorized")
    assert _as(secured, "Token ").request("POST", "/write", LINE).status == 401
    other = _as(secured, f"Token {token}").request("POST", "/api/v2/write", b"other v=1 1767225600000000000")
    assert (other.status, other.json["code"]) == (403, "forbidden")
