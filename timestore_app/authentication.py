"""Builds what authenticates callers, and the server to them, from the settings."""

from __future__ import annotations

import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from access.authenticator import Authenticator
from access.grants import Grants
from access.jwks import KeySet
from access.jwt_rules import JwtRules
from access.jwt_verifier import JwtTokens
from access.principal import Limits
from access.verifiers import CachedVerifier, CatalogTokens
from catalog.connections import Connections
from catalog.tokens import Tokens
from flight_server.server import TlsIdentity
from timestore.errors import TimestoreError
from timestore_app.settings import Settings

OTHERS_MAY_READ = 0o077

log = structlog.get_logger()


class CredentialsError(Exception):
    """A file of keys, certificates or grants that cannot be used; the message says which and why."""


def build_authenticator(settings: Settings, connections: Connections) -> Authenticator:
    """Return the authenticator that a server of these settings has; raises ``CredentialsError``."""
    if not settings.authenticates:
        return Authenticator(required=False)
    limits = Limits(max_running_puts=settings.principal_max_running_puts, bytes_per_s=settings.principal_bytes_per_s)
    assigned = _read_grants(settings.grants_file) if settings.grants_file is not None else {}
    tokens = CatalogTokens(tokens=Tokens(connections=connections), default_limits=limits)
    return Authenticator(
        required=True,
        tokens=CachedVerifier(tokens),
        web_tokens=_build_web_tokens(settings, assigned, limits),
        assigned=assigned,
        default_limits=limits,
    )


def read_tls(settings: Settings) -> TlsIdentity | None:
    """Read certificate and key, and see to it that they belong together; raises ``CredentialsError``."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    client_ca = _read(settings.tls_client_ca) if settings.tls_client_ca is not None else None
    identity = TlsIdentity(certificate=_read(settings.tls_cert), key=_read(settings.tls_key), client_ca=client_ca)
    _tls_context(settings)
    if settings.tls_key.stat().st_mode & OTHERS_MAY_READ:
        log.warning("tls.key_readable", file=str(settings.tls_key), advice="chmod 600")
    return identity


def http_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return what HTTP is encrypted with: the same certificate, and the same authorities for those of clients."""
    return _tls_context(settings) if settings.tls_cert is not None else None


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Load certificate, key and authorities; raises ``CredentialsError``."""
    assert settings.tls_cert is not None  # settings have it with the others
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as exc:
        raise CredentialsError(
            f"the certificate {settings.tls_cert} and the key {settings.tls_key} do not belong together, or are no PEM "
            "(a key must have no passphrase)"
        ) from exc
    if settings.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except ssl.SSLError as exc:
            raise CredentialsError(f"{settings.tls_client_ca} has no certificates of authorities in PEM") from exc
    return context


def _build_web_tokens(settings: Settings, assigned: Mapping[str, Grants], limits: Limits) -> CachedVerifier | None:
    if settings.jwt_issuer is None or settings.jwt_audience is None or settings.jwt_jwks is None:
        return None
    rules = JwtRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.pinned_jwt_algorithms,
        principal_claim=settings.jwt_principal_claim,
        grants_claim=settings.jwt_grants_claim,
    )
    keys = KeySet(settings.jwt_jwks)
    return CachedVerifier(JwtTokens(keys=keys, rules=rules, assigned=assigned, default_limits=limits))


def _read_grants(path: Path) -> dict[str, Grants]:
    """Read a TOML file with a table ``grants``: lists of grants by principal."""
    try:
        document: dict[str, Any] = tomllib.loads(_read(path).decode())
        return {name: Grants.parse(_texts(texts)) for name, texts in document["grants"].items()}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError) as exc:
        raise CredentialsError(
            f'{path} is no file of grants: write [grants] and lines like "cert:feeder" = ["append:sensors_*"]'
        ) from exc
    except TimestoreError as exc:
        raise CredentialsError(f"{path}: {exc.message}") from exc


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError("grants are lists of texts")
    return value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CredentialsError(f"{path} cannot be read: {exc.strerror}") from exc
