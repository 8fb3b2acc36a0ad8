"""Which HTTP statuses are worth another attempt."""

from __future__ import annotations

from typing import Final

from pgqueue.model.job_info import JobInfo

TRANSIENT_STATUSES: Final = frozenset({408, 421, 423, 425, 429, 500, 502, 503, 504, 507, 509, 529, 599})
"""HTTP statuses after which the same request can succeed later."""


def is_transient_status(status: int) -> bool:
    """Whether the same request can succeed after it was answered with this HTTP status."""
    return status in TRANSIENT_STATUSES


def transient_http(attempt: int, exc: BaseException, job: JobInfo) -> bool | None:  # noqa: ARG001
    """For `retry_when=`: retry after HTTP errors that may pass, and fail at once after those that will not.

    Handles the exceptions of httpx, requests, aiohttp, urllib and similar libraries, which have a status at
    `.response.status_code`, `.response.status`, `.status_code`, `.status` or `.code`. A Retry-After header
    is respected. Returns None for other errors.
    """
    for holder in (getattr(exc, "response", None), exc):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and 400 <= status <= 599:
                return is_transient_status(status)
    return None
