"""Puts the routes together into one Starlette app."""

from __future__ import annotations

from starlette.applications import Starlette

from pgqueue.app import PgQueue
from pgqueue.metrics import Metrics
from pgqueue.web import health, jobs, metrics
from pgqueue.web.problems import exception_handlers


def status_app(pgq: PgQueue, *, counted: Metrics | None = None) -> Starlette:
    """Return an ASGI app that shows jobs, metrics and health, to be served or mounted.

    It neither opens nor closes *pgq*: the program around it does. *counted*: the metrics to show; if not
    given, the app counts from now on by itself.
    """
    return Starlette(
        routes=[
            *jobs.routes(pgq),
            *metrics.routes(counted or Metrics(pgq)),
            *health.routes(pgq),
        ],
        exception_handlers=exception_handlers(),
    )
