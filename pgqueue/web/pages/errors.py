"""Errors as pages."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ExceptionHandler

from pgqueue.web.http.statuses import STATUSES, refusal_of
from pgqueue.web.pages.login import to_login
from pgqueue.web.pages.page import Pages, base_of

TITLES: Final = {
    401: "Login required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timed out",
    409: "Not possible in the current state",
    410: "No longer stored",
    413: "Too large",
    415: "Unsupported content type",
    422: "Invalid input",
    429: "Too many requests",
    500: "Internal error",
    503: "Temporarily unavailable",
}


def explain(error: Exception) -> tuple[int, str]:
    """Return the status of *error*, an HTTPException or one of STATUSES, and what is wrong."""
    if isinstance(error, HTTPException):
        return error.status_code, error.detail
    return refusal_of(error)[:2]


def exception_handlers(pages: Pages) -> dict[Any, ExceptionHandler]:
    """Return what turns exceptions of routes into pages."""

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 401 and pages.settings.token is not None:
            return to_login(request, pages.access)
        headers = dict(error.headers or {})
        if 300 <= error.status_code < 400 and "Location" in headers:
            return RedirectResponse(headers["Location"], error.status_code, headers)
        is_default = error.detail == HTTPStatus(error.status_code).phrase
        detail = f"{request.method} {request.url.path}" if is_default else error.detail
        return page(request, error.status_code, detail, headers)

    async def refused(request: Request, error: Exception) -> Response:
        return page(request, *refusal_of(error))

    async def broken(request: Request, _: Exception) -> Response:
        return page(request, 500, "Details are in the service's log.", {})

    def page(request: Request, status: int, detail: str, headers: Mapping[str, str]) -> Response:
        title = TITLES.get(status) or HTTPStatus(status).phrase
        base = base_of(request)
        # Without the database the overview is not there either.
        is_over_soon = status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET"
        section = request.url.path.removeprefix(base).strip("/").partition("/")[0]
        answer = pages.render(
            request,
            "error.html",
            section=section or "overview",
            status=status,
            is_top=False,
            code=status,
            title=title,
            detail=detail,
            back="" if is_over_soon else f"{base}/",
            back_label="Try again" if is_over_soon else "Go to the overview",
        )
        answer.headers.update(headers)
        return answer

    return {
        HTTPException: http_error,
        **dict.fromkeys(STATUSES, refused),
        Exception: broken,
    }
