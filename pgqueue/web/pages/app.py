"""Puts the pages together into one app below `/dashboard`."""

from __future__ import annotations

from importlib.util import find_spec

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from pgqueue.app import PgQueue
from pgqueue.web.pages import jobs, overview, queues, workers
from pgqueue.web.pages import static_files as static
from pgqueue.web.pages.dead_letters import DeadLetterPages
from pgqueue.web.pages.dead_letters_bulk import BulkPages
from pgqueue.web.pages.errors import exception_handlers
from pgqueue.web.pages.job import JobPage
from pgqueue.web.pages.job_redrive import RedrivePages
from pgqueue.web.pages.login import LoginPages
from pgqueue.web.pages.page import Desk
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[BaseRoute]:
    """Return the routes of the pages; none where they are not wanted, or jinja2 is not there.

    Raises ConfigurationError where they are wanted and cannot be had.
    """
    is_wanted = settings.dashboard
    if is_wanted is False or (is_wanted is None and find_spec("jinja2") is None):
        return []

    async def home(request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}/dashboard/")

    return [Route("/", home), Mount("/dashboard", app=dashboard(pgq, settings, access), name="dashboard")]


def dashboard(pgq: PgQueue, settings: WebSettings, access: Access) -> Starlette:
    """Return the pages, to be mounted at `/dashboard` beside the API. Raises ConfigurationError."""
    desk = Desk(pgq, settings, access)
    return Starlette(
        routes=[
            *overview.routes(desk),
            *jobs.routes(desk),
            *JobPage(desk).routes(),
            *RedrivePages(desk).routes(),
            *BulkPages(desk).routes(),
            *DeadLetterPages(desk).routes(),
            *queues.routes(desk),
            *workers.routes(desk),
            *LoginPages(desk).routes(),
            *static.routes(settings),
        ],
        exception_handlers=exception_handlers(desk),
    )
