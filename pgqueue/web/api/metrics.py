"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.metrics import DatabaseMetrics
from pgqueue.web.security.access import Access


def routes(metrics: DatabaseMetrics, access: Access) -> list[Route]:
    """Return the route of *metrics*."""

    async def scrape(request: Request) -> Response:
        await access.check(request, "read", "metrics")
        return Response(await metrics.render(), headers={"Content-Type": metrics.content_type})

    return [Route("/metrics", scrape, name="metrics")]
