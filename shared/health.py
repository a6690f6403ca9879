"""`/healthz`, `/readyz` and `/metrics`, the same in every service.

`/healthz` says the process is alive; `/readyz` says it does its work now, or names what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Readiness = Callable[[], list[str]]


def probes(service: str, readiness: Readiness) -> APIRouter:
    """Return the first two routes; `readiness` returns what is missing, nothing when the service is ready."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/healthz", summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive", "service": service}

    @routes.get(
        "/readyz",
        summary="The service does its work",
        responses={503: {"description": "something is missing; `missing` names it"}},
    )
    async def readyz() -> JSONResponse:
        missing = readiness()
        status = "not ready" if missing else "ready"
        body: dict[str, Any] = {"status": status, "service": service, "missing": missing}
        return JSONResponse(body, status_code=503 if missing else 200)

    return routes


def router(service: str, readiness: Readiness, registry: CollectorRegistry) -> APIRouter:
    """Return all three routes."""
    routes = probes(service, readiness)

    @routes.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return routes
