"""The dashboard's files, served by the gateway of one machine; on Kubernetes an image of its own does it."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

BUILT = Path(__file__).parents[1] / "dashboard" / "dist"

# Nothing from elsewhere, nothing inline; React sets styles through the DOM, which is no inline style.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HASHED = "public, max-age=31536000, immutable"  # the build names assets by their content

_MISSING = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Veracity Realtime</title>
<h1>The gateway works; the dashboard is not built</h1>
<p>Install Node.js 20 or newer and run <code>make dashboard</code>, then start again.</p>
<p>Until then: <code>veracity tail trends stories trust_scores</code>, <a href="/docs">the HTTP API</a>,
<a href="/asyncapi.json">the WebSocket protocol</a>.</p></html>"""


class Pages(StaticFiles):
    """The built files, with what browsers must know of them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return one file."""
        response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = _POLICY
        response.headers["cache-control"] = _HASHED if path.startswith("assets/") else "no-cache"
        return response


def missing() -> APIRouter:
    """Return the page that stands where the dashboard would be, with what to do about it."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(_MISSING)

    return routes
