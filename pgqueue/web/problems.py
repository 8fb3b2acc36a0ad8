"""Errors as application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ExceptionHandler

from pgqueue.database import CONNECTION_ERRORS
from pgqueue.errors import DatabaseUnavailableError

NO_STORE = {"Cache-Control": "no-store"}


class Problem(JSONResponse):
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


def exception_handlers() -> dict[Any, ExceptionHandler]:
    """Return what turns exceptions of routes into problems."""
    away = (DatabaseUnavailableError, *CONNECTION_ERRORS)
    return {HTTPException: _http_error, **dict.fromkeys(away, _database_away)}


async def _http_error(_: Request, error: Exception) -> Problem:
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, error.detail, headers=error.headers)


async def _database_away(_: Request, __: Exception) -> Problem:
    # The error itself may name hosts and users: it is not for whoever asks.
    return Problem(503, "the database does not answer", headers={"Retry-After": "1"})
