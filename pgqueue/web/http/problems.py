"""Errors as application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ExceptionHandler

from pgqueue.errors import (
    InvalidArgumentsError,
    JobNotScheduledError,
    JobNotWaitingError,
    JobOverError,
    NotADeadLetterError,
)
from pgqueue.tasks.mismatch import without_values
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.routing import allowed_methods
from pgqueue.web.http.statuses import STATUSES, refusal_of

NO_STORE = {"Cache-Control": "no-store"}


class Problem(JsonResponse):
    """A response that describes an error."""

    media_type = "application/problem+json"

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        document = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            **members,
        }
        super().__init__(document, status, headers={**NO_STORE, **(headers or {})})


class ProblemError(HTTPException):
    """Ends a request with a problem that has *members* besides the usual ones."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(status, detail, headers)
        self.members = members


def exception_handlers() -> dict[Any, ExceptionHandler]:
    """Return what turns exceptions of routes into problems."""
    return {HTTPException: _http_error, **dict.fromkeys(STATUSES, _refused)}


async def _http_error(request: Request, error: Exception) -> Problem:
    assert isinstance(error, HTTPException)
    members = error.members if isinstance(error, ProblemError) else {}
    headers = dict(error.headers or {})
    detail = error.detail
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods(request))
        detail = f"{request.method} is not allowed here; use {headers['Allow']}"
    return Problem(error.status_code, detail, headers=headers, **members)


async def _refused(_: Request, error: Exception) -> Problem:
    status, detail, headers = refusal_of(error)
    return Problem(status, detail, headers=headers, **_members_of(error))


def _members_of(error: Exception) -> dict[str, Any]:
    """Return what a problem says of *error* besides the usual members."""
    match error:
        case InvalidArgumentsError() if error.errors or error.argument is not None:
            return {"errors": argument_errors(error, names_extra=True)}
        case NotADeadLetterError() | JobNotScheduledError() | JobNotWaitingError() | JobOverError():
            return {"job_status": str(error.status)}
        case _:
            return {}


def argument_errors(error: InvalidArgumentsError, *, names_extra: bool) -> list[dict[str, str]]:
    """Return which arguments are invalid, and why, without their values: they may be secret.

    *names_extra*: whether to name arguments that the task does not know.
    """
    if not error.errors:
        return [{"field": f"arguments.{error.argument}", "message": str(error)}]
    return [
        {"field": ".".join(map(str, ("arguments", *place))), "message": message}
        for place, message in without_values(error.errors, names_extra=names_extra)
    ]
