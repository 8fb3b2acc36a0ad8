"""An app for programs that show only their metrics and their health."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware

from pgqueue.metrics import DatabaseMetrics
from pgqueue.web.api import health, metrics
from pgqueue.web.http.problems import exception_handlers
from pgqueue.web.security.access import Access
from pgqueue.web.security.guard import Guard
from pgqueue.web.settings import WebSettings


def monitoring_app(
    counted: DatabaseMetrics,
    find_problems: health.FindProblems,
    *,
    token: str | None = None,
    open_reading: bool = False,
) -> Starlette:
    """Return an ASGI app with `/metrics`, `/livez` and `/readyz` alone.

    *find_problems* returns why the program is not ready. *token*: what a request for the metrics must carry
    (`Authorization: Bearer TOKEN`). *open_reading*: every request that the network lets through may read
    them. With neither, programs on this machine may. Raises ConfigurationError for a token that is too short.
    """
    access = Access(WebSettings(token=token, open_reading=open_reading, local_reading=token is None))
    return Starlette(
        routes=[*metrics.routes(counted, access), *health.routes(find_problems)],
        middleware=[Middleware(Guard)],
        exception_handlers=exception_handlers(),
    )
