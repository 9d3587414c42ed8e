"""The API's documents at ``/docs``: Swagger UI, all of it from files that the package brings."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

from timestore.errors import error

# A page that runs nothing but its own files, and shows pictures that Swagger UI has within its styles.
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Timestore</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true });
"""
_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon.png": "image/png"}
_HEADERS = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
_CACHED = {"cache-control": "max-age=86400", "x-content-type-options": "nosniff"}


def docs_routes() -> APIRouter:
    """Return the routes of the documents, which are not in the documents themselves."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    def read_docs() -> Response:
        return Response(_PAGE, media_type="text/html", headers=_HEADERS)

    @router.get("/docs/{name}")
    def read_file(name: str) -> Response:
        if name == "start.js":
            return Response(_START, media_type="text/javascript", headers=_CACHED)
        if name not in _FILES:
            raise error("action_unknown", f"the documents have no file {name[:60]!a}; see /docs")
        content = (files("fastapi_offline") / "static" / name).read_bytes()
        return Response(content, media_type=_FILES[name], headers=_CACHED)

    return router
