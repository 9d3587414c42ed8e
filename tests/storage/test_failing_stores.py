"""Stores that fail in ways that no good server does; a small HTTP server plays each of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from storage.objects import ObjectStore
from storage.opening import open_object_store
from tests.fixtures.object_stores import ACCESS_KEY, SECRET_KEY, forget_credentials
from timestore.errors import InvalidInputError, RetryableError, TimestoreError

Answering = Callable[[int, str], ObjectStore]


class _Answers(ThreadingHTTPServer):
    """Gives every request the same answer, and counts them."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.code = code
        self.requests = 0


class _Handler(BaseHTTPRequestHandler):
    server: _Answers

    def do_PUT(self) -> None:
        """Take the body and answer."""
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"<Error><Code>{self.server.code}</Code><Message>{SECRET_KEY}</Message></Error>".encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body) if self.server.status >= 300 else 0))
        self.end_headers()
        if self.server.status >= 300:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(name="answering")
def _answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], _Answers]]:
    forget_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    servers: list[_Answers] = []

    def answer(status: int, code: str) -> _Answers:
        servers.append(server := _Answers(status, code))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield answer
    for server in servers:
        server.shutdown()
        server.server_close()


def _store(server: _Answers, *, deadline_s: float = 10.0) -> ObjectStore:
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    return open_object_store("s3://bucket/prefix", {"endpoint_url": endpoint}, deadline_s=deadline_s)


@pytest.mark.parametrize("code", ["SlowDown", "???"])
def test_a_failing_store(answering: Callable[[int, str], _Answers], code: str) -> None:
    """A store that fails for a while is asked again until the deadline; then the put fails retryably."""
    server = answering(503, code)
    with pytest.raises(RetryableError) as caught:
        _store(server, deadline_s=2.0).put_bytes(b"x", "a")
    assert caught.value.kind == "storage_unavailable"
    assert "s3://bucket/prefix/" in caught.value.message
    assert server.requests > 1


@pytest.mark.parametrize(
    ("status", "code"), [(507, "InsufficientStorage"), (507, "XMinioStorageFull"), (403, "QuotaExceeded")]
)
def test_a_full_store(answering: Callable[[int, str], _Answers], status: int, code: str) -> None:
    """No room is no room: ``disk_full``, at once."""
    server = answering(status, code)
    with pytest.raises(TimestoreError, match="free space") as caught:
        _store(server).put_bytes(b"x", "a")
    assert caught.value.kind == "disk_full"
    assert server.requests == 1


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "InvalidAccessKeyId", "does not know these credentials"),
        (403, "SignatureDoesNotMatch", "does not know these credentials"),
        (400, "ExpiredToken", "expired"),
        (403, "AccessDenied", "do not permit PutObject in bucket 'bucket'"),
        (404, "NoSuchBucket", "there is no bucket 'bucket'"),
        (301, "PermanentRedirect", "another region"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "SomethingNew", "refuses PutObject"),
    ],
)
def test_what_somebody_has_to_change(
    answering: Callable[[int, str], _Answers], status: int, code: str, said: str
) -> None:
    """What no repetition mends is told in a sentence of its own, at once; never with what the service said."""
    server = answering(status, code)
    with pytest.raises(RetryableError, match=said) as caught:
        _store(server).put_bytes(b"x", "a")
    assert code in caught.value.message
    assert SECRET_KEY not in str(caught.value)
    assert server.requests == 1


def test_a_store_that_overwrites(answering: Callable[[int, str], _Answers]) -> None:
    """A store that does not heed If-None-Match is refused before anything is stored in it."""
    server = answering(200, "")
    with pytest.raises(InvalidInputError, match="If-None-Match") as caught:
        _store(server).put_bytes(b"x", "timestore.json")
    assert caught.value.kind == "unsupported"
    assert server.requests == 2


def test_nobody_there(answering: Callable[[int, str], _Answers], tmp_path: Path) -> None:
    """A store that cannot be reached is named with its address; the file stays for the next attempt."""
    server = answering(200, "")
    server.shutdown()
    server.server_close()
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(RetryableError, match=rf"127.0.0.1:{server.server_address[1]} cannot be reached"):
        _store(server, deadline_s=2.0).put(tmp_path / "a", "a")
    assert (tmp_path / "a").exists()


def test_no_credentials(answering: Callable[[int, str], _Answers], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials nothing is sent, and the message says where they come from."""
    server = answering(200, "")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(RetryableError, match="AWS_ACCESS_KEY_ID"):
        _store(server).put_bytes(b"x", "a")
    assert server.requests == 0


def test_a_store_is_of_its_process(answering: Callable[[int, str], _Answers], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork there is no event loop: a store says so rather than wait for ever."""
    store = _store(answering(200, ""))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(TimestoreError, match="fork"):
        store.stat("a")
