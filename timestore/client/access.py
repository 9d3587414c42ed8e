"""What a client proves itself with, and what a server must prove itself with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from timestore.errors import error

Token = str | Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Credentials of a client; never shown."""

    token: Token | None = field(default=None, repr=False)
    tls_root_certs: bytes | None = field(default=None, repr=False)
    tls_client_cert: bytes | None = field(default=None, repr=False)
    tls_client_key: bytes | None = field(default=None, repr=False)


NO_ACCESS = Access()


def access_of(
    *,
    token: Token | None,
    tls_root_certs: bytes | str | PathLike[str] | None,
    tls_client_cert: bytes | str | PathLike[str] | None,
    tls_client_key: bytes | str | PathLike[str] | None,
) -> Access:
    """Read credentials; raises ``descriptor_invalid`` for what cannot be used."""
    if (tls_client_cert is None) != (tls_client_key is None):
        raise error("descriptor_invalid", "tls_client_cert and tls_client_key belong together: give both or neither")
    if isinstance(token, str):
        check_token(token)
    return Access(
        token=token,
        tls_root_certs=_pem("tls_root_certs", tls_root_certs),
        tls_client_cert=_pem("tls_client_cert", tls_client_cert),
        tls_client_key=_pem("tls_client_key", tls_client_key),
    )


def check_token(token: str) -> str:
    """See to it that a token can be sent; it is not shown."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise error("descriptor_invalid", "the token is empty, or has characters that no token has, such as a newline")
    return token


def _pem(name: str, given: bytes | str | PathLike[str] | None) -> bytes | None:
    if given is None or isinstance(given, bytes):
        return given
    try:
        return Path(given).read_bytes()
    except OSError as exc:
        raise error("descriptor_invalid", f"the file {given} of {name} cannot be read: {exc.strerror}") from exc
