"""Puts the routes together into one Starlette app."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware

from pgqueue.app import PgQueue
from pgqueue.metrics import Metrics
from pgqueue.web.api import dead_letters, health, metrics, openapi, queues, redrives, streams, tasks, workers
from pgqueue.web.api import job as jobs
from pgqueue.web.api import job_history as operating
from pgqueue.web.api import jobs as listing
from pgqueue.web.http.problems import exception_handlers
from pgqueue.web.live.server_stop import Ending
from pgqueue.web.pages import routes as pages
from pgqueue.web.security.access import Access
from pgqueue.web.security.guard import Guard
from pgqueue.web.settings import WebSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgqueue.web.settings import WebOptions


def status_app(pgq: PgQueue, *, counted: Metrics | None = None, **options: Unpack[WebOptions]) -> Starlette:
    """Return an ASGI app that shows and runs jobs, queues and workers, to be served or mounted.

    It neither opens nor closes *pgq*: the program around it does. *counted*: the metrics to show; if not
    given, the app counts from now on by itself. *options*: see WebSettings.
    """
    settings = WebSettings(**options)
    access = Access(settings)
    ending = Ending()
    app = Starlette(
        routes=[
            # What has a fixed path comes before what has an id there.
            *listing.routes(pgq, settings, access),
            *jobs.routes(pgq, settings, access, ending),
            *streams.routes(pgq, settings, access, ending),
            *operating.routes(pgq, settings, access),
            *redrives.routes(pgq, settings, access),
            *dead_letters.routes(pgq, settings, access),
            *tasks.routes(pgq, settings, access),
            *queues.routes(pgq, settings, access),
            *workers.routes(pgq, access),
            *metrics.routes(counted or Metrics(pgq), access),
            *health.routes(partial(health.find_problems, pgq)),
            *pages(pgq, settings, access),
            *openapi.routes(settings, access),
        ],
        middleware=[Middleware(Guard)],
        exception_handlers=exception_handlers(),
    )
    app.state.ending = ending
    return app


def end_streams(app: object) -> None:
    """End the event streams and long polls of *app*, for good, if it is a status app: its server is to stop.

    Not needed where uvicorn handles the signals of the process: that is seen.
    """
    if isinstance(app, Starlette) and hasattr(app.state, "ending"):
        app.state.ending.say()
