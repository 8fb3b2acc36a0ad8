"""Puts the routes together into one Starlette app."""

from __future__ import annotations

from functools import partial

from starlette.applications import Starlette
from starlette.middleware import Middleware

from pgqueue.app import PgQueue
from pgqueue.metrics import Metrics
from pgqueue.web import pages
from pgqueue.web.api import (
    bulk,
    dead_letters,
    health,
    job,
    job_history,
    jobs,
    limits,
    metrics,
    openapi,
    ordered,
    queues,
    redrives,
    schedules,
    streams,
    tasks,
    workers,
    workflow_operations,
    workflows,
)
from pgqueue.web.http.problems import exception_handlers
from pgqueue.web.live.long_poll import LongPolls
from pgqueue.web.live.server_stop import ServerStop
from pgqueue.web.live.workflow_changes import WorkflowChanges
from pgqueue.web.security.access import Access
from pgqueue.web.security.guard import Guard
from pgqueue.web.settings import WebSettings, takes


@takes(WebSettings)
def status_app(pgq: PgQueue, settings: WebSettings) -> Starlette:
    """Return an ASGI app that shows and operates jobs, queues and workers, to be served or mounted.

    It neither opens nor closes *pgq*: the program around it does. Keyword arguments are the fields of
    WebSettings: `token`, `authorize`, `owns`, `name` and others. Raises ConfigurationError if one is invalid.
    """
    access = Access(settings, pgq)
    server_stop = ServerStop()
    long_polls = LongPolls(settings, server_stop)
    changes = WorkflowChanges(pgq)
    app = Starlette(
        routes=[
            # Fixed paths come before those with an id in the same place.
            *jobs.routes(pgq, settings, access),
            *job.routes(pgq, settings, access, long_polls),
            *streams.routes(pgq, settings, access, server_stop, changes),
            *job_history.routes(pgq, settings, access),
            *bulk.routes(pgq, settings, access),
            *redrives.routes(pgq, settings, access),
            *dead_letters.routes(pgq, settings, access),
            *tasks.routes(pgq, settings, access),
            *queues.routes(pgq, settings, access),
            *workers.routes(pgq, access),
            *workflows.routes(pgq, access, long_polls, changes),
            *workflow_operations.routes(pgq, settings, access),
            *schedules.routes(pgq, settings, access),
            *limits.routes(pgq, settings, access),
            *ordered.routes(pgq, settings, access),
            *metrics.routes(settings.counted or Metrics(pgq), access),
            *health.routes(partial(health.find_problems, pgq)),
            *pages.routes(pgq, settings, access),
            *openapi.routes(settings, access),
        ],
        middleware=[Middleware(Guard)],
        exception_handlers=exception_handlers(),
    )
    app.state.server_stop = server_stop
    return app


def end_streams(app: object) -> None:
    """End the event streams and long polls of *app*, if it is a status app, before its server stops.

    Not needed under a uvicorn that handles the process's signals: the app notices its stop.
    """
    if isinstance(app, Starlette) and hasattr(app.state, "server_stop"):
        app.state.server_stop.announce()
