"""Puts the pages together into one app below `/dashboard`."""

from __future__ import annotations

from importlib.util import find_spec

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from pgqueue.app import PgQueue
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.pages import (
    dead_letters,
    dead_letters_bulk,
    enqueue,
    job,
    job_edit,
    job_redrive,
    jobs,
    jobs_bulk,
    limits,
    login,
    overview,
    queues,
    schedules,
    static_files,
    tasks,
    workers,
    workflows,
)
from pgqueue.web.pages.errors import exception_handlers
from pgqueue.web.pages.page import Pages
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[BaseRoute]:
    """Return the routes of the pages; none if they are turned off, or by default without jinja2.

    Raises ConfigurationError if they are turned on and jinja2 is not installed.
    """
    is_wanted = settings.dashboard
    if is_wanted is False or (is_wanted is None and find_spec("jinja2") is None):
        return []

    async def home(request: Request) -> Response:
        mount = request.scope["root_path"]
        let = login.let_in_by_address(request, access, f"{mount}/dashboard/", mount=mount or "/")
        return let or RedirectResponse(f"{mount}/dashboard/", headers=NO_STORE)

    return [Route("/", home), Mount("/dashboard", app=dashboard(pgq, settings, access), name="dashboard")]


def dashboard(pgq: PgQueue, settings: WebSettings, access: Access) -> Starlette:
    """Return the pages, to be mounted at `/dashboard` beside the API. Raises ConfigurationError."""
    pages = Pages(pgq, settings, access)
    return Starlette(
        routes=[
            *overview.routes(pages),
            *jobs.routes(pages),
            # Before the pages of jobs, whose ids could be any text.
            *jobs_bulk.routes(pages),
            *job.routes(pages),
            *enqueue.routes(pages),
            *job_edit.routes(pages),
            *job_redrive.routes(pages),
            # Before the groups, which have any name.
            *dead_letters_bulk.routes(pages),
            *dead_letters.routes(pages),
            *queues.routes(pages),
            *workers.routes(pages),
            *tasks.routes(pages),
            *workflows.routes(pages),
            *schedules.routes(pages),
            *limits.routes(pages),
            *login.routes(pages),
            *static_files.routes(settings),
        ],
        exception_handlers=exception_handlers(pages),
    )
