"""JSON web tokens: who signed them, for whom, until when, and what they allow."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import timestore
from access.grants import Grants, Permission
from access.jwks import KeySet
from access.jwt_rules import JwtRules
from access.jwt_verifier import JwtTokens
from access.principal import Limits
from tests.fixtures.data import cpu_table
from tests.fixtures.server import StartService
from timestore.errors import AccessDeniedError, OverloadedError, TimestoreError

ISSUER, AUDIENCE = "https://issuer.example", "timestore"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def _jwks(**keys: Any) -> str:
    """The document in which an issuer shows its keys."""
    listed = []
    for key_id, key in keys.items():
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        shown = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
        listed.append({**shown, "kid": key_id, "alg": algorithm, "use": "sig"})
    return json.dumps({"keys": listed})


def _token(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 60, **claims}
    headers = {"kid": kid} if kid is not None else None
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, algorithm, headers)


def _unsigned(**header: Any) -> str:
    """A token that says that it needs no signature."""
    _, body, _ = _token().split(".")
    return f"{jwt.utils.base64url_encode(json.dumps({'typ': 'JWT', **header}).encode()).decode()}.{body}."


@pytest.fixture(name="jwks_file")
def _jwks_file(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(_jwks(one=RSA_KEY, two=EC_KEY))
    return file


@pytest.fixture(name="verifier")
def _verifier(jwks_file: Path) -> JwtTokens:
    rules = JwtRules(issuer=ISSUER, audience=AUDIENCE, grants_claim="timestore")
    assigned = {"jwt:alice": Grants.parse(["read:a"])}
    return JwtTokens(keys=KeySet(str(jwks_file)), rules=rules, assigned=assigned, default_limits=Limits())


def test_a_good_token(verifier: JwtTokens) -> None:
    """A token that the issuer signed for this audience says who it is; claim and file say what it may."""
    for claim in (["append:b", "write:b", 7], "append:b nonsense"):
        verified = verifier.verify(_token(timestore=claim))
        assert verified.principal.name == "jwt:alice"
        assert verified.principal.grants.as_texts() == ["append:b", "read:a"]
        assert 50 < verified.valid_s < 80
    assert verifier.verify(_token(EC_KEY, "ES256", "two")).principal.grants == Grants.parse(["read:a"])
    assert not verifier.verify(_token(sub="bob")).principal.may("a", Permission.READ)


SHARED_SECRET = "s" * 64
BAD_TOKENS = {
    "expired": lambda: _token(exp=time.time() - 60),
    "not yet": lambda: _token(nbf=time.time() + 60),
    "issued later": lambda: _token(iat=time.time() + 60),
    "another issuer": lambda: _token(iss="https://other.example"),
    "another audience": lambda: _token(aud="other"),
    "no audience": lambda: _token(aud=None),
    "no issuer": lambda: _token(iss=None),
    "no expiry": lambda: _token(exp=None),
    "no subject": lambda: _token(sub=None),
    "a subject with a newline": lambda: _token(sub="a\nb"),
    "an empty subject": lambda: _token(sub=""),
    "an unknown key": lambda: _token(kid="three"),
    "no key id, of two": lambda: _token(kid=None),
    "somebody else's key": lambda: _token(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "another key's id": lambda: _token(EC_KEY, "ES256", "one"),
    "an algorithm that is not pinned": lambda: _token(RSA_KEY, "RS512"),
    "a shared secret": lambda: _token(SHARED_SECRET, "HS256"),
    "unsigned": lambda: _unsigned(alg="none", kid="one"),
    "unsigned, in another spelling": lambda: _unsigned(alg="NoNe", kid="one"),
    "without an algorithm": lambda: _unsigned(kid="one"),
    "no signature": lambda: _token().rsplit(".", 1)[0] + ".",
    "changed": lambda: _token()[:-4] + "AAAA",
    "nonsense": lambda: "a.b.c",
    "huge": lambda: _token(extra="x" * 20_000),
}


@pytest.mark.parametrize("what", BAD_TOKENS)
def test_a_bad_token(verifier: JwtTokens, what: str) -> None:
    """A token with anything wrong is refused as unauthenticated, and the message does not repeat it."""
    token = BAD_TOKENS[what]()

    with pytest.raises(AccessDeniedError) as caught:
        verifier.verify(token)

    assert caught.value.kind == "unauthenticated"
    assert "JWT" in caught.value.message
    assert token[-20:] not in caught.value.message


def test_keys_are_fetched_within_bounds() -> None:
    """Tokens of unknown keys do not make the server fetch at their rate; known keys outlive a source that is away."""
    answers: list[str | Exception] = [_jwks(one=RSA_KEY), OSError("away")]
    asked: list[str] = []

    def read(source: str) -> bytes:
        asked.append(source)
        answer = answers[min(len(asked), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer.encode()

    keys = KeySet("https://issuer.example/jwks", read=read)
    assert keys.find("one") is not None
    for _ in range(50):
        assert keys.find("unknown") is None
    assert len(asked) == 1
    keys._tried_at = keys._fetched_at = float("-inf")  # long after
    assert keys.find("one") is not None
    assert len(asked) == 2


def test_keys_that_were_never_had(tmp_path: Path) -> None:
    """Without keys nobody is refused for good: the call may be repeated."""
    with pytest.raises(OverloadedError):
        KeySet(str(tmp_path / "absent.json")).find("one")


@pytest.fixture(name="issuer_url")
def _issuer_url() -> Iterator[str]:
    """An issuer that shows its keys by HTTP, on this machine; and sends whoever asks elsewhere on."""

    class Issuer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library calls it so
            self.send_response(200 if self.path == "/jwks" else 302)
            self.send_header("Location", "/jwks")
            self.end_headers()
            self.wfile.write(_jwks(one=RSA_KEY).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_takes_jwt(start_service: StartService, issuer_url: str, tmp_path: Path) -> None:
    """A server with an issuer takes its tokens beside its own, and the audit has who they are of."""
    grants = tmp_path / "grants.toml"
    grants.write_text('[grants]\n"jwt:alice" = ["append,create:a_*"]\n"jwt:root" = ["admin:*"]\n')
    service = start_service(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=f"{issuer_url}/jwks", grants_file=grants)
    with timestore.connect(service.url, token=_token(), retries=False) as client:
        client.append("a_1", cpu_table(1))
        with pytest.raises(AccessDeniedError, match="'jwt:alice' lacks the grant"):
            client.append("b", cpu_table(1))
    with timestore.connect(service.url, token=_token(sub="root"), retries=False) as client:
        assert [item["principal"] for item in client.audit("a_1")] == ["jwt:alice"]
    with timestore.connect(service.url, retries=False) as client, pytest.raises(AccessDeniedError):
        client.health()


def test_redirects_are_not_followed(issuer_url: str) -> None:
    """Keys come from the very address that was given: another one could be reached without encryption."""
    with pytest.raises(TimestoreError):
        KeySet(f"{issuer_url}/elsewhere").find("one")
