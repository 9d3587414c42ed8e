"""The HTTP API is what its documents say."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fixtures.http_requests import NDJSON, OPENAPI, Http
from timestore.errors import KINDS

NOT_HERE = {kind for kind, spec in KINDS.items() if spec.http == 501}  # explained: a type or an encoding, by name
CHECKS = (response_schema_conformance, status_code_conformance, content_type_conformance)
OPERATIONS = [
    (path, method) for path, operations in json.loads(OPENAPI.read_text())["paths"].items() for method in operations
]


def test_the_committed_document(http: Http, request: pytest.FixtureRequest) -> None:
    """The committed document is the one that the server serves (`make openapi` writes it), and valid OpenAPI 3.1."""
    served = http.get("/openapi.json").json
    if request.config.getoption("--write-openapi"):
        OPENAPI.write_text(json.dumps(served, indent=2, ensure_ascii=False) + "\n")
    assert json.loads(OPENAPI.read_text()) == served
    assert served["openapi"].startswith("3.1")
    for schema in served["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"})


def test_documents_need_nothing_else(http: Http) -> None:
    """/docs and all it loads comes from the server itself, which forbids it anything else."""
    page = http.get("/docs")
    assert page.status == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http" not in page.body.decode().replace("https://", "http://").split("<body>")[1]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(loaded) >= 3
    for name in loaded:
        file = http.get(f"/{name}")
        assert (file.status, len(file.body) > 50) == (200, True)
    assert http.get("/docs/../../pyproject.toml").status == 404
    assert http.get("/docs/none.js").status == 404


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_fails_unexplained(http: Http, path: str, method: str) -> None:
    """Whatever is sent, well-formed or not: answers are as documented, and none is a failure of the server's own."""
    http.append("known", b'{"ts":"2026-01-01T00:00:00Z","n":1}\n', NDJSON, idempotency_key="known")
    address = f"http://{http.host}:{http.port}"
    operation = schemathesis.openapi.from_url(f"{address}/openapi.json")[path][method]

    @given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)))
    @settings(max_examples=40, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None)
    def send(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=address)
        if response.status_code >= 500:
            assert response.json()["kind"] in NOT_HERE, response.text
            return
        case.validate_response(response, checks=[not_a_server_error, *CHECKS])

    send()
