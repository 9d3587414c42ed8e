"""Nobody opens a server to others by mistake, or with credentials that do not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.command_line import Done, run_process
from timestore_app.authentication import CredentialsError, read_tls
from timestore_app.exposure import ExposedError, check_exposure
from timestore_app.self_signed import create_self_signed
from timestore_app.settings import Settings, SettingsError

CERTIFICATE = {"tls_cert": "cert.pem", "tls_key": "key.pem"}


def _serve(directory: Path, *arguments: str) -> Done:
    return run_process("serve", "--data-dir", str(directory), "--port", "0", *arguments)


def test_an_open_network(tmp_path: Path) -> None:
    """An address that others can reach is refused without TLS and authentication; the message says what to do."""
    refused = _serve(tmp_path, "--host", "0.0.0.0")

    assert refused.code == 1
    for option in ("--tls-cert", "--insecure-no-tls", "--require-auth", "--insecure-no-auth", "127.0.0.1"):
        assert option in refused.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, ["--tls-cert", "--require-auth"]),
        ({"insecure_no_tls": True}, ["--require-auth"]),
        ({"insecure_no_auth": True}, ["--tls-cert"]),
        ({"require_auth": True}, ["--tls-cert"]),
        (CERTIFICATE | {"insecure_no_auth": True}, None),
        (CERTIFICATE, None),
        ({"insecure_no_tls": True, "insecure_no_auth": True}, None),
        ({"insecure_no_tls": True, "require_auth": True}, None),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "db.example.com", ""])
def test_each_must_be_left_out_by_itself(host: str, settings: dict[str, object], missing: list[str] | None) -> None:
    """What protects a server is there, or was said to be left out; one option leaves out one thing."""
    loaded = Settings.load(None, {"host": host, **settings})

    if missing is None:
        check_exposure(loaded)
        return
    with pytest.raises(ExposedError) as caught:
        check_exposure(loaded)
    assert [each for each in ("--tls-cert", "--require-auth") if each in str(caught.value)] == missing


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_is_free(host: str) -> None:
    """On loopback a server needs nothing."""
    check_exposure(Settings.load(None, {"host": host}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_cert": "a"}, "tls_key"),
        ({"tls_client_ca": "a"}, "tls_cert"),
        ({"jwt_issuer": "a"}, "jwt_audience"),
        ({"jwt_issuer": "a", "jwt_audience": "b", "jwt_jwks": "http://example.com/jwks"}, "https://"),
        ({"jwt_algorithms": "RS256,none"}, "none"),
        ({"jwt_algorithms": "HS256"}, "HS256"),
        ({"jwt_algorithms": ""}, "jwt_algorithms"),
        ({"require_auth": True, "insecure_no_auth": True}, "contradicts"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, object], message: str) -> None:
    """Settings that would protect less than they seem to are refused."""
    with pytest.raises(SettingsError, match=message):
        Settings.load(None, settings)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    """A certificate without its own key, with a locked one or none at all, is refused at start by name; so is a file
    of authorities that has none.
    """
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        create_self_signed(
            cert=tmp_path / name / "cert.pem", key=tmp_path / name / "key.pem", hosts=["localhost"], days=1
        )
    locked = tmp_path / "locked.pem"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    cert = tmp_path / "one" / "cert.pem"
    for key in (tmp_path / "two" / "key.pem", locked, cert, tmp_path / "absent.pem"):
        with pytest.raises(CredentialsError, match=f"{key.name}"):
            read_tls(Settings.load(None, {"tls_cert": cert, "tls_key": key}))
    own = tmp_path / "one" / "key.pem"
    for authorities in (own, tmp_path / "absent.pem"):
        with pytest.raises(CredentialsError, match=f"{authorities.name}"):
            read_tls(Settings.load(None, {"tls_cert": cert, "tls_key": own, "tls_client_ca": authorities}))

    refused = _serve(tmp_path / "d", "--tls-cert", str(cert), "--tls-key", str(locked))
    assert refused.code == 1
    assert "do not belong together" in refused.err


def test_a_certificate_is_not_overwritten(tmp_path: Path) -> None:
    """Making a certificate twice is refused, and the first one stays; nobody else may read its key."""
    made = run_process("tls", "create-self-signed", str(tmp_path), "--host", "db.example.com", "--json")
    before = (tmp_path / "cert.pem").read_bytes()

    again = run_process("tls", "create-self-signed", str(tmp_path))

    assert made.document["hosts"][0] == "db.example.com"
    assert again.code == 1
    assert "is there already" in again.err
    assert (tmp_path / "cert.pem").read_bytes() == before
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
