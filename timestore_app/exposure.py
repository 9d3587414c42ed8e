"""Whether a server with some settings may be started: nobody opens one to a network by mistake."""

from __future__ import annotations

import ipaddress

from timestore_app.settings import Settings


class ExposedError(Exception):
    """Others could reach the server, and something that protects it is missing; the message says what to do."""


def check_exposure(settings: Settings) -> None:
    """Refuse an address that others can reach without TLS or authentication, unless each was said to be left out."""
    hosts = [settings.host]
    if settings.http_port is not None and settings.http_host is not None:
        hosts.append(settings.http_host)
    exposed = next((host for host in hosts if not is_loopback(host)), None)
    if exposed is None:
        return
    problems = []
    if settings.tls_cert is None and not settings.insecure_no_tls:
        problems.append(
            "nothing is encrypted: give --tls-cert and --tls-key (timestore tls create-self-signed makes them), or say "
            "--insecure-no-tls"
        )
    if not settings.authenticates and not settings.insecure_no_auth:
        problems.append(
            "nobody is authenticated: say --require-auth (timestore token create makes tokens), or say "
            "--insecure-no-auth"
        )
    if problems:
        raise ExposedError(
            f"host {exposed!r} can be reached by others, and {'; and '.join(problems)}. "
            "Or listen on 127.0.0.1, where only this machine gets in"
        )


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
