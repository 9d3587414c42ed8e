"""How callers prove who they are: tokens, handshakes, certificates, and what becomes of each."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_manager import ProgrammingError
from cryptography.x509 import BasicConstraints, load_pem_x509_certificate

import timestore
from access.principal import Limits
from access.token_text import TokenText
from access.verifiers import CACHE_S, CachedVerifier, CatalogTokens
from catalog.connections import Connections
from catalog.tokens import NewToken, Tokens
from tests.fixtures.certificates import Authority
from tests.fixtures.command_line import run_process
from tests.fixtures.data import cpu_table
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.secured import Secured
from tests.fixtures.server import ServerProcess, StartService, wait_until
from timestore.errors import AccessDeniedError, OverloadedError, RetryableError, TimestoreError
from timestore_app.self_signed import create_self_signed

StartProcess = Callable[..., ServerProcess]


def _adbc(secured: Secured, **options: str) -> Any:
    known = {DatabaseOptions.TLS_ROOT_CERTS.value: secured.root_certs.decode()} | options
    return flight_sql.connect(secured.service.url, db_kwargs=known, autocommit=True)


def test_adbc_with_a_password(secured: Secured) -> None:
    """The stock ADBC driver logs in with any user and a token as its password, and may what the token may."""
    token = secured.token("append,create:adbc_*", name="adbc")
    with _adbc(secured, username="anybody", password=token) as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("adbc_a", cpu_table(3), mode="create") == 3
        with pytest.raises(ProgrammingError, match="append:other"):
            cursor.adbc_ingest("other", cpu_table(3), mode="create")
    with secured.client(secured.token("admin:adbc_a")) as admin:
        assert [item["principal"] for item in admin.audit("adbc_a")] == ["token:adbc"]


def test_adbc_with_a_wrong_password(secured: Secured) -> None:
    """A password that is no token is refused by the handshake already, as unauthenticated."""
    with pytest.raises(Exception, match=r"(?i)unauthenticated"):
        _adbc(secured, username="anybody", password="wrong")


def test_adbc_with_a_header(secured: Secured) -> None:
    """The stock ADBC driver sends a token as a bearer header too, and repeats it."""
    token = secured.token("append,create:adbc_*")
    header = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"}
    with _adbc(secured, **header) as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("adbc_b", cpu_table(3), mode="create_append") == 3


def test_the_handshake_of_pyarrow(secured: Secured) -> None:
    """``authenticate_basic_token`` gives the header that later calls send."""
    token = secured.token("read:cpu")
    client, _ = secured.flight()
    with client:
        header = client.authenticate_basic_token("anybody", token)
        assert header == (b"authorization", f"Bearer {token}".encode())
        assert list(client.list_actions(flight.FlightCallOptions(headers=[header])))


@pytest.mark.parametrize("spell", [lambda text: text, lambda text: text.rstrip("=")])
def test_basic_with_every_call(secured: Secured, spell: Callable[[str], str]) -> None:
    """Basic credentials may come with every call as well, with padding or without, also repeated."""
    basic = spell(base64.b64encode(f"me:{secured.token('read:cpu')}".encode()).decode())
    client, options = secured.flight(f"Basic {basic}", f"Basic {basic}")
    with client:
        assert list(client.list_actions(options))


def test_a_revoked_token(secured: Secured) -> None:
    """A token that was revoked works for as long as it is remembered and no longer, on open connections too."""
    token = secured.token("read:cpu")
    with secured.client(token) as client:
        client.describe("cpu")
        secured.revoke(token)
        revoked_at = time.monotonic()
        begun = [revoked_at]  # each call but the last was let in

        def is_refused() -> bool:
            begun.append(time.monotonic())
            return _is_refused(client)

        wait_until(is_refused, timeout_s=CACHE_S + 5)
        assert begun[-2] - revoked_at <= CACHE_S


def test_a_token_is_looked_up_seldom(secured: Secured) -> None:
    """A token costs a look into the catalog once in a while, not with every call; expiry is not overslept."""
    looks: list[str] = []

    class Counted(Tokens):
        def find(self, token_id: str) -> Any:
            looks.append(token_id)
            return secured.tokens.find(token_id)

    verifier = CachedVerifier(CatalogTokens(tokens=Counted(connections=None), default_limits=Limits()))  # type: ignore[arg-type]
    token = secured.token("read:cpu", lifetime_s=1)
    for _ in range(100):
        verifier.principal(token)
    assert len(looks) == 1
    wait_until(lambda: _raises(lambda: verifier.principal(token)))
    assert len(looks) < 10  # the last moments of a token are looked at more closely


def test_a_token_costs_a_put_nothing(
    start_service: StartService,
    proxy: PostgresProxy,
    connections: Connections,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A put with a token that is remembered sends the catalog as many statements as one to an open server."""
    monkeypatch.setattr("timestore_app.background.HORIZON_INTERVAL_S", threading.TIMEOUT_MAX)
    text = TokenText.new()
    Tokens(connections=connections).create(
        NewToken(
            token_id=text.token_id,
            secret_hash=text.secret_hash,
            principal="a",
            grants=["append,create:*"],
            max_running_puts=3,
            bytes_per_s=10**9,
            lifetime=None,
        )
    )

    def fewest(url: str, token: str | None) -> int:
        counts = []
        with timestore.connect(url, token=token, retries=False) as client:
            for _ in range(5):
                before = proxy.statements
                client.append("cpu", cpu_table(1))
                counts.append(proxy.statements - before)
        return min(counts)

    is_open = fewest(start_service(catalog_dsn=proxy.dsn).url, None)
    secured = fewest(start_service(catalog_dsn=proxy.dsn, require_auth=True).url, text.reveal())

    assert secured == is_open


def _begun(secured: Secured, token: str, dataset: str) -> RawPut:
    """A put that has sent one row, and not yet its end."""
    put = RawPut(
        secured.service.url,
        command(dataset=dataset, idempotency_key="a"),
        cpu_table(1).schema,
        {"authorization": f"Bearer {token}"},
        tls_root_certs=secured.root_certs,
    )
    assert put.answer()
    put.send(cpu_table(1))
    return put


def test_a_put_whose_token_is_revoked(secured: Secured) -> None:
    """A put is judged again right before its commit: one whose token was revoked meanwhile stores nothing."""
    token = secured.token("append,create:revoked")
    put = _begun(secured, token, "revoked")
    secured.revoke(token)
    with secured.client(token) as client:
        wait_until(lambda: _is_refused(client), timeout_s=CACHE_S + 5)
    put.mark_end(1)
    with pytest.raises(TimestoreError) as caught:
        put.finish()
    assert caught.value.kind == "unauthenticated"
    with secured.client(secured.token("read:*")) as client:
        assert "revoked" not in [item["dataset"] for item in client.datasets()]


def test_puts_at_once(secured: Secured) -> None:
    """More puts of a principal than it may run are overloaded, with a delay; others are not held up."""
    one, same = (secured.token("append,create:busy", name="busy", max_running_puts=1) for _ in range(2))
    put = _begun(secured, one, "busy")
    with secured.client(same) as client, pytest.raises(OverloadedError, match="'token:busy'") as caught:
        client.append("busy", cpu_table(1))
    assert caught.value.retry_after_s
    with secured.client(secured.token("append,create:busy")) as other:
        other.append("busy", cpu_table(1))
    put.mark_end(1)
    put.finish()
    with secured.client(same) as client:
        assert client.append("busy", cpu_table(1)).rows == 1


def test_bytes_per_second(secured: Secured) -> None:
    """A principal's puts are read no faster than its rate, all together; none fails, and others are not slowed."""
    rows = cpu_table(20_000)
    size = rows.nbytes
    token = secured.token("append,create:slow", bytes_per_s=size)
    took: list[float] = []

    def append(number: int) -> None:
        with secured.client(token) as client:
            begun = time.monotonic()
            client.append("slow", rows, idempotency_key=str(number))
            took.append(time.monotonic() - begun)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(3)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    with secured.client(secured.token("append,create:fast")) as other:
        other.append("fast", rows)
    others_took = time.monotonic() - begun
    for thread in threads:
        thread.join()
    assert len(took) == 3
    assert max(took) >= 1.9  # three seconds' worth, of which one at once
    assert others_took < max(took)


def test_certificates_of_clients(start_service: StartService, tmp_path: Path) -> None:
    """With mTLS a client is who its certificate says: its first alternative name, else its common name.

    Grants come from the file of grants; a token goes before the certificate; without one nobody gets in.
    """
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    create_self_signed(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", hosts=["127.0.0.1"], days=2)
    (tmp_path / "grants.toml").write_text(
        '[grants]\n"cert:feeder" = ["append,create:sensors_*"]\n"cert:a.example" = ["read:*"]\n'
    )
    service = start_service(
        tls_cert=tmp_path / "cert.pem",
        tls_key=tmp_path / "key.pem",
        tls_client_ca=tmp_path / "ca.pem",
        grants_file=tmp_path / "grants.toml",
    )

    def connect(*names: str, authority: Authority = authority, **options: Any) -> timestore.Client:
        cert, key = authority.issue(*names)
        return timestore.connect(
            service.url,
            tls_root_certs=tmp_path / "cert.pem",
            tls_client_cert=cert,
            tls_client_key=key,
            retries=False,
            **options,
        )

    with connect("feeder") as feeder:
        feeder.append("sensors_a", cpu_table(1))
        with pytest.raises(AccessDeniedError, match="'cert:feeder' lacks the grant"):
            feeder.append("other", cpu_table(1))
    with connect("feeder", "a.example", "b.example") as reader:
        assert reader.read("sensors_a").num_rows == 1
        with pytest.raises(AccessDeniedError, match=r"'cert:a\.example'"):
            reader.append("sensors_a", cpu_table(1))
    with connect("feeder", token="tst_wrong") as wrong, pytest.raises(AccessDeniedError):
        wrong.health()
    for stranger in (
        connect("feeder", authority=Authority()),
        timestore.connect(service.url, tls_root_certs=tmp_path / "cert.pem", retries=False),
        timestore.connect(service.url.replace("grpc+tls", "grpc"), retries=False),
    ):
        with stranger, pytest.raises(RetryableError) as caught:
            stranger.health()
        assert caught.value.kind == "unreachable"


def test_a_server_that_is_not_trusted(secured: Secured) -> None:
    """A client sends its token to no server whose certificate it does not trust."""
    with (
        timestore.connect(secured.service.url, token=secured.token("admin:*"), retries=False) as client,
        pytest.raises(RetryableError, match="certificate"),
    ):
        client.health()


def test_who_trusts_a_self_signed_certificate(secured: Secured) -> None:
    """It is a server's, not an authority's, else rustls refuses it; OpenSSL at its strictest trusts it all the same, by
    every name in it and by no other.
    """
    constraints = load_pem_x509_certificate(secured.root_certs).extensions.get_extension_for_class(BasicConstraints)
    assert constraints.value.ca is False
    trusting = ssl.create_default_context(cadata=secured.root_certs.decode())
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    trusting.set_alpn_protocols(["h2"])

    def greet(name: str) -> None:
        address = ("127.0.0.1", int(secured.service.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=10) as plain, trusting.wrap_socket(plain, server_hostname=name):
            pass

    greet("127.0.0.1")
    greet("localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        greet("other.example")


def test_a_function_that_gives_tokens(secured: Secured) -> None:
    """A token may be a function, which is asked for each call: for tokens that do not last."""
    tokens = [secured.token("read:cpu"), secured.token("read:secret")]
    with secured.client(tokens.pop) as client:
        assert client.describe("secret")["dataset"] == "secret"
        assert client.describe("cpu")["dataset"] == "cpu"
        with pytest.raises(IndexError):  # what it raises is the caller's own
            client.describe("cpu")


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ä"])
def test_what_is_no_token(token: str) -> None:
    """What cannot be sent as a token is refused before anything is sent, and not shown."""
    with pytest.raises(TimestoreError) as caught:
        timestore.connect("grpc://127.0.0.1:1", token=token)
    assert caught.value.kind == "descriptor_invalid"


def test_tokens_of_a_data_directory(server_process: StartProcess, tmp_path: Path) -> None:
    """Tokens are made, listed and revoked before the first start and while the server runs; no secret is anywhere.

    Log, errors, server.json, the catalog, and what other users see of the processes have none.
    """
    data_dir = tmp_path / "process"
    assert run_process("token", "list", "--data-dir", str(data_dir)).code == 1
    assert not data_dir.exists()
    made = run_process("token", "create", "--data-dir", str(data_dir), "--grant", "append,create:sensors_*")
    early = made.out.strip()
    server = server_process("--require-auth", data_dir=data_dir)
    file = tmp_path / "admin.token"
    by_file = ("token", "create", "--data-dir", str(data_dir), "--grant", "admin:*", "--name", "boss")
    assert run_process(*by_file, "--token-file", str(file), "--expires", "1d").code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    late = file.read_text().strip()
    put = tmp_path / "rows.arrow"
    with pa.OSFile(str(put), "wb") as sink, pa.ipc.new_file(sink, cpu_table(1).schema) as writer:
        writer.write_table(cpu_table(1))

    where = ("--url", server.url)
    done = run_process("put", "--dataset", "sensors_a", str(put), *where, TIMESTORE_TOKEN=early)
    assert done.code == 0, done.err
    refused = run_process("put", "--dataset", "other", str(put), *where, TIMESTORE_TOKEN=early)
    assert refused.code == 4
    assert "[permission_denied]" in refused.err
    assert "[unauthenticated]" in run_process("datasets", *where).err
    audit = run_process("audit", "sensors_a", *where, "--json", TIMESTORE_TOKEN_FILE=str(file))
    assert [line["principal"] for line in audit.lines] == [f"token:{_id_of(early)}"]
    assert run_process("audit", "sensors_a", *where, "--token-file", str(file)).code == 0
    arguments = [Path(f"/proc/{server.pid}/cmdline").read_bytes()]

    listed = run_process("token", "list", "--data-dir", str(data_dir), "--json")
    assert [(line["principal"], line["state"]) for line in listed.lines] == [
        (f"token:{_id_of(early)}", "valid"), ("token:boss", "valid")
    ]  # fmt: skip
    assert run_process("token", "revoke", _id_of(early), "--data-dir", str(data_dir)).code == 0
    again = run_process("token", "revoke", _id_of(early), "--data-dir", str(data_dir), "--json")
    assert again.document["revoked"] is True
    assert run_process("token", "revoke", "nobody", "--data-dir", str(data_dir)).code == 1
    with timestore.connect(server.url, token=early, retries=False) as client:
        wait_until(lambda: _is_refused(client), timeout_s=CACHE_S + 5)

    texts = [server.log.read_bytes(), (data_dir / "server.json").read_bytes(), *arguments]
    texts += [each.encode() for done in (listed, refused, audit, again) for each in (done.out, done.err)]
    assert server.terminate() == 0
    texts += [path.read_bytes() for path in (data_dir / "postgres").rglob("*") if path.is_file()]
    for token in (early, late):
        secret = TokenText.parse(token)
        assert secret is not None
        assert not any(secret.secret.encode() in text for text in texts)
    assert b"access.denied" in texts[0]
    assert b"access.unauthenticated" in texts[0]


def _id_of(token: str) -> str:
    return token.split("_")[1]


def _is_refused(client: timestore.Client) -> bool:
    return _raises(client.health)


def _raises(call: Callable[[], object]) -> bool:
    try:
        call()
    except AccessDeniedError:
        return True
    return False
