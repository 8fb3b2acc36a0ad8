"""The page of an operation on many jobs: how far it has come, and the form that stops it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pgqueue.model.operation import OperationProgress
from pgqueue.web.pages.page import Pages
from pgqueue.web.security.access import Ask


async def show_operation(
    pages: Pages,
    request: Request,
    progress: OperationProgress,
    template: str,
    *,
    at: str,
    section: str,
    heading: str,
    stopped_by: Ask,
    **values: Any,
) -> Response:
    """Show how far an operation has come.

    *at* is the path of its kind, and *section* where it belongs. *stopped_by*: what stopping it asks for.
    """
    return pages.render(
        request,
        template,
        section=section,
        is_top=False,
        events="" if progress.is_over else "/events",
        operation=progress,
        at=at,
        heading=heading,
        may_stop=(await pages.offers(request, stopped_by))(*stopped_by),
        now=await pages.pgq.now(),
        **values,
    )
