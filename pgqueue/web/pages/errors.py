"""What went wrong, as a page for eyes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ExceptionHandler

from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.errors import (
    DatabaseUnavailableError,
    InvalidArgumentsError,
    InvalidFilterError,
    InvalidOptionError,
    JobNotFoundError,
    JobNotWaitingError,
    NotADeadLetterError,
    PayloadTooLargeError,
    PgQueueError,
    UnknownQueueError,
)
from pgqueue.web.pages.login import to_login
from pgqueue.web.pages.page import Desk, base_of

STATUSES: dict[type[PgQueueError], int] = {
    # The first that fits counts.
    JobNotFoundError: 404,
    NotADeadLetterError: 409,
    JobNotWaitingError: 409,
    PayloadTooLargeError: 413,
    InvalidArgumentsError: 422,
    InvalidFilterError: 422,
    InvalidOptionError: 422,
    UnknownQueueError: 422,
}
TITLES = {
    401: "You have to say who you are",
    403: "You may not do this",
    404: "There is no such thing here",
    405: "This cannot be done here",
    408: "That took too long to arrive",
    409: "This does not fit any more",
    413: "That is too much",
    415: "That is not a form",
    422: "That cannot be read",
    429: "That is too often",
    500: "Something went wrong here",
    503: "The database does not answer",
}


def status_of(error: Exception) -> int:
    """Return the status for one of these errors."""
    return next(status for kind, status in STATUSES.items() if isinstance(error, kind))


def exception_handlers(desk: Desk) -> dict[Any, ExceptionHandler]:
    """Return what turns exceptions of routes into pages."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 401 and desk.settings.token is not None:
            return to_login(request)
        headers = dict(error.headers or {})
        if 300 <= error.status_code < 400 and "Location" in headers:
            return RedirectResponse(headers["Location"], error.status_code, headers)
        is_unsaid = error.detail == HTTPStatus(error.status_code).phrase
        detail = f"{request.method} {request.url.path}" if is_unsaid else error.detail
        return page(request, error.status_code, detail, headers)

    async def mistaken(request: Request, error: Exception) -> Response:
        return page(request, status_of(error), str(error))

    async def away(request: Request, _: Exception) -> Response:
        # The error itself may name hosts and users: it is not for whoever asks.
        return page(request, 503, "Look again in a moment.", {"Retry-After": "1"})

    async def broken(request: Request, _: Exception) -> Response:
        return page(request, 500, "The log of the service says what. Nothing of it is shown here.")

    def page(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
        title = TITLES.get(status) or HTTPStatus(status).phrase
        base = base_of(request)
        section = request.url.path.removeprefix(base).strip("/").partition("/")[0]
        answer = desk.render(
            request,
            "error.html",
            section=section or "overview",
            status=status,
            is_top=False,
            code=status,
            title=title,
            detail=detail,
            back=f"{base}/",
            back_words="To the overview",
        )
        answer.headers.update(headers or {})
        return answer

    return {
        HTTPException: refused,
        **dict.fromkeys(STATUSES, mistaken),
        **dict.fromkeys((DatabaseUnavailableError, *CONNECTION_ERRORS), away),
        Exception: broken,
    }
