"""Liveness and metrics, without authentication."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from shared.health import RENDERED_METRICS

router = APIRouter(tags=["probes"])


@router.get("/health")
@router.get("/health/live")
async def health() -> dict[str, str]:
    """Say that HTTP is served."""
    return {"status": "alive"}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics() -> Response:
    """Return everything that is counted, as Prometheus reads it and as it was within the last second."""
    return Response(await RENDERED_METRICS.text(), media_type=CONTENT_TYPE_LATEST)
