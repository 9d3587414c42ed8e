"""Clients without our library, with a server that encrypts and asks who calls."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.clients.programs import JDBC, Program, each, write_stream
from tests.fixtures.data import cpu_table
from tests.fixtures.secured import Secured
from timestore.errors import AccessDeniedError


@each("TLS and token")
def test_tls_and_a_token(program: Program, secured: Secured, tmp_path: Path) -> None:
    """Every program trusts a self-signed certificate that it is given, shows its token, and may what that may: other
    names are refused by kind, and so is who has no token.
    """
    file = write_stream(cpu_table(10), tmp_path / "sent.arrows")
    token = tmp_path / "token"
    token.write_text(secured.token("append,create:sensors_*") + "\n")
    dataset = f"sensors_{uuid4().hex}"
    url = secured.service.url.replace("127.0.0.1", "localhost")  # Node warns of TLS to an address
    rest = ("--idempotency-key", "a", "--url", url, "--tls-root", secured.directory / "cert.pem")

    program.run(*program.put, dataset, file, *rest, "--token-file", token)
    denied = program.refusal(*program.put, "secret", file, *rest, "--token-file", token)
    unknown = program.refusal(*program.put, dataset, file, *rest)

    assert "(permission_denied)" in denied
    assert "append:secret" in denied
    assert "(unauthenticated)" in unknown
    with secured.client(secured.token(f"read:{dataset}")) as reader:
        assert reader.read(dataset).equals(cpu_table(10))


@pytest.mark.capability("timestore", "TLS and token")
def test_our_client_over_tls(secured: Secured) -> None:
    """Our client trusts the certificate that it is given, and may what its token may; other names are refused by kind,
    and so is who has no token.
    """
    dataset = f"sensors_{uuid4().hex}"
    with secured.client(secured.token("append,create:sensors_*")) as client:
        client.append(dataset, cpu_table(10))
        with pytest.raises(AccessDeniedError, match="append:secret") as denied:
            client.append("secret", cpu_table(10))
    with secured.client(None) as stranger, pytest.raises(AccessDeniedError) as unknown:
        stranger.append(dataset, cpu_table(10))

    assert (denied.value.kind, unknown.value.kind) == ("permission_denied", "unauthenticated")
    with secured.client(secured.token(f"read:{dataset}")) as reader:
        assert reader.read(dataset).equals(cpu_table(10))


@pytest.mark.toolchain
@pytest.mark.capability(JDBC.client, "TLS and token")
def test_jdbc_over_tls(secured: Secured, tmp_path: Path) -> None:
    """JDBC trusts the certificate that it is given, and asks what its token may ask; other names are refused by kind,
    and so is who has no token.
    """
    token = tmp_path / "token"
    token.write_text(secured.token("read:cpu") + "\n")
    rest = ("--url", secured.service.url, "--tls-root", secured.directory / "cert.pem")

    row = JDBC.run("sql", "SELECT count(*) AS n FROM cpu", *rest, "--token-file", token)
    denied = JDBC.refusal("sql", "SELECT count(*) AS n FROM secret", *rest, "--token-file", token)
    unknown = JDBC.refusal("sql", "SELECT count(*) AS n FROM cpu", *rest)

    assert json.loads(row) == {"n": 10}
    assert "(permission_denied)" in denied
    assert "read:secret" in denied
    assert "(unauthenticated)" in unknown
