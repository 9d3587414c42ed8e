"""The ASGI application: what is common to all routes. Each group of routes is a router, built by a function."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi

from http_gateway.callers import Callers
from http_gateway.docs_routes import docs_routes
from http_gateway.documents import PROBLEMS
from http_gateway.problems import PROBLEM_TYPE, install_problems
from timestore import __version__

DESCRIPTION = """
Append rows to datasets and read them back, exactly once: the same rules, receipts and promise as by Arrow Flight.
"""

_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token, or a JSON web token."},
    "password": {"type": "http", "scheme": "basic", "description": "A token as the password, of whatever user."},
}


def build_app(routers: Sequence[APIRouter], *, callers: Callers, public: Sequence[APIRouter] = ()) -> FastAPI:
    """Build the application of some routers, and of those that are ``public``: they answer whoever asks."""
    app = FastAPI(
        title="Timestore",
        version=__version__,
        summary="Exactly-once ingestion of time series.",
        description=DESCRIPTION,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    install_problems(app)
    for router in routers:
        app.include_router(router, responses=PROBLEMS, dependencies=[Depends(callers)])
    for router in (*public, docs_routes()):
        app.include_router(router)
    app.openapi = partial(_documented, app)  # type: ignore[method-assign]  # as FastAPI's own documents say to
    return app


def _documented(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with our problem details in place of FastAPI's own errors."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            openapi_version="3.1.0",
            summary=app.summary,
            description=app.description,
            routes=app.routes,
        )
        for operation in (each for path in document["paths"].values() for each in path.values()):
            operation["responses"].pop("422", None)
            for status, response in operation["responses"].items():
                if status in PROBLEMS:
                    response["content"] = {PROBLEM_TYPE: response["content"].pop("application/json")}
        document["components"]["securitySchemes"] = _SECURITY
        document["security"] = [{}, *({name: []} for name in _SECURITY)]
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
