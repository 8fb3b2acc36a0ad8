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
    counted: DatabaseMetrics, find_problems: health.FindProblems, *, open_reading: bool
) -> Starlette:
    """Return an ASGI app with `/metrics`, `/livez` and `/readyz` alone.

    *find_problems* returns why the program is not ready. *open_reading*: every request that the network lets
    through may read the metrics, not only those of this machine.
    """
    access = Access(WebSettings(open_reading=open_reading))
    return Starlette(
        routes=[*metrics.routes(counted, access), *health.routes(find_problems)],
        middleware=[Middleware(Guard)],
        exception_handlers=exception_handlers(),
    )
