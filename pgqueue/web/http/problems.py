"""Errors as application/problem+json (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ExceptionHandler

from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.errors import (
    CodecError,
    ConfigurationError,
    DatabaseUnavailableError,
    DuplicateJobError,
    DuplicateKeyError,
    IdempotencyConflictError,
    InvalidArgumentsError,
    InvalidFilterError,
    JobNotFoundError,
    JobNotWaitingError,
    JobPurgedError,
    KeyInFlightError,
    NotADeadLetterError,
    NotOpenError,
    PayloadTooLargeError,
    PgQueueError,
    QueueFullError,
    UnknownQueueError,
    UnknownTaskError,
)
from pgqueue.web.http.json_response import JsonAnswer
from pgqueue.web.http.routing import allowed_methods

NO_STORE = {"Cache-Control": "no-store"}

STATUSES: Final[Mapping[type[PgQueueError], int]] = {
    # What a caller says at run time and cannot be meant: an option, a name, a filter.
    ConfigurationError: 422,
    InvalidFilterError: 422,
    InvalidArgumentsError: 422,
    PayloadTooLargeError: 413,
    UnknownQueueError: 422,
    UnknownTaskError: 422,
    IdempotencyConflictError: 422,
    JobNotFoundError: 404,
    JobPurgedError: 410,
    NotADeadLetterError: 409,
    JobNotWaitingError: 409,
    DuplicateJobError: 409,
    KeyInFlightError: 409,
    CodecError: 500,
    NotOpenError: 503,
    QueueFullError: 503,
}
"""What pgqueue's own errors mean over HTTP. The nearest class counts."""


class Problem(JsonAnswer):
    """A response that says what is wrong."""

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
    away = (DatabaseUnavailableError, *CONNECTION_ERRORS)
    return {
        HTTPException: _http_error,
        **dict.fromkeys(STATUSES, _refused),
        **dict.fromkeys(away, _database_away),
    }


async def _http_error(request: Request, error: Exception) -> Problem:
    assert isinstance(error, HTTPException)
    members = error.members if isinstance(error, ProblemError) else {}
    headers = dict(error.headers or {})
    detail = error.detail
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods(request))
        detail = f"{request.method} is not for this: {headers['Allow']} are"
    return Problem(error.status_code, detail, headers=headers, **members)


async def _refused(_: Request, error: Exception) -> Problem:
    assert isinstance(error, PgQueueError)
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    members: dict[str, Any] = {}
    detail = str(error)
    # What passes by itself.
    headers = {"Retry-After": "1"} if isinstance(error, NotOpenError | KeyInFlightError) else None
    match error:
        case InvalidArgumentsError() if error.errors or error.argument is not None:
            members["errors"] = _argument_errors(error)
        case DuplicateKeyError() | IdempotencyConflictError():
            # Which job it is, and its call's digest, are not for everybody who guesses a key.
            detail = f"task {error.task!r}: another job holds the idempotency key of this call"
        case NotADeadLetterError() | JobNotWaitingError():
            members["job_status"] = str(error.status)
        case QueueFullError():
            headers = {"Retry-After": str(math.ceil(error.retry_after))}
        case CodecError():
            detail = f"what is stored of job {error.job_id} cannot be decoded here"
        case _:
            pass
    return Problem(status, detail, headers=headers, **members)


def _argument_errors(error: InvalidArgumentsError) -> list[dict[str, str]]:
    """Return which arguments do not fit, and why, without their values: they may be secret."""
    if not error.errors:
        return [{"field": f"arguments.{error.argument}", "message": str(error)}]
    return [
        {"field": ".".join(map(str, ("arguments", *each["loc"]))), "message": each["msg"]}
        for each in error.errors
    ]


async def _database_away(_: Request, __: Exception) -> Problem:
    # The error itself may name hosts and users: it is not for whoever asks.
    return Problem(503, "the database does not answer", headers={"Retry-After": "1"})
