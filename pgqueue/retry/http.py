"""Which HTTP statuses are worth another try."""

from __future__ import annotations

from typing import Final

from pgqueue.model.job_info import JobInfo

TRANSIENT_STATUSES: Final = frozenset({408, 421, 423, 425, 429, 500, 502, 503, 504, 507, 509, 529, 599})
"""HTTP statuses of requests that can succeed when they are made again as they are."""


def is_transient_status(status: int) -> bool:
    """Whether a request that was answered with this HTTP status is worth making again as it is."""
    return status in TRANSIENT_STATUSES


def transient_http(attempt: int, exc: BaseException, job: JobInfo) -> bool | None:  # noqa: ARG001
    """Retry what an HTTP server may do another time, and fail at once what it never will: for `retry_when=`.

    Knows the exceptions of httpx, requests, aiohttp, urllib and others like them: those with a status at
    `.response.status_code`, `.response.status`, `.status_code`, `.status` or `.code`. A Retry-After header
    is honoured. Says nothing of other errors.
    """
    for holder in (getattr(exc, "response", None), exc):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and 400 <= status <= 599:
                return is_transient_status(status)
    return None
