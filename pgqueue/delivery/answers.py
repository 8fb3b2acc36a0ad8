"""What the answer of an HTTP target leads to. Values only: no network.

2xx ends the job. 429, and 503 with a Retry-After, have it wait, which does not count, and slow its limits by
rate. All else is an error: one that may pass is retried, any other is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from typing_extensions import TypedDict

from pgqueue.errors import HttpAnswerError, HttpTargetError, UnusableAnswerError
from pgqueue.retry.control import RateLimited
from pgqueue.retry.delays import read_delay
from pgqueue.retry.http import is_transient_status
from pgqueue.retry.policy import RetryWhen

EXCERPT: Final = 500
"""Bytes of an answer that an error shows."""
PATIENCE: Final = timedelta(days=7)
"""From its enqueue, for which a job lets itself be sent away; from then on its attempts count."""
LEAST_WAIT: Final = 1.0
"""Seconds that a target is left alone at least: one that answers "now" would keep a worker busy."""


class HttpAnswer(TypedDict):
    """The result of a job whose target has accepted it."""

    status: int
    body: Any
    """The JSON that it answered. None: it answered no JSON, or more than the task keeps."""


def is_accepted(status: int) -> bool:
    """Return whether this status ends the job."""
    return 200 <= status <= 299


def keeps(status: int, content_type: str | None, most: int) -> int:
    """Return how many bytes of an answer to read, at most."""
    if not is_accepted(status):
        return EXCERPT
    kind = (content_type or "").partition(";")[0].strip().lower()
    return most if kind == "application/json" or kind.endswith("+json") else 0


def refusal(
    url: str,
    status: int,
    retry_after: str | None,
    location: str | None,
    excerpt: bytes,
    *,
    is_patient: bool = True,
) -> HttpAnswerError | RateLimited:
    """Return what the job's attempt raises after a *status* that is not accepted.

    *is_patient*: whether the job is to wait, without counting the attempt, for as long as the target asks.
    """
    wait = None if retry_after is None else read_delay(retry_after)
    if is_patient and (status == 429 or (status == 503 and wait is not None)):
        return limited(wait)
    if 300 <= status <= 399:
        where = f" ({location[:200]!r})" if location else ""
        detail = f"redirects are not followed{where}: give the task the final URL"
    else:
        detail = printable(excerpt)
    return HttpAnswerError(url, status, detail, wait)


def is_patient(created_at: datetime | None) -> bool:
    """Return whether a job that was enqueued then lets itself be sent away once more."""
    return created_at is None or datetime.now(UTC) - created_at < PATIENCE


def limited(wait: float | datetime | None) -> RateLimited:
    """Return what has a job wait for so long, and slows the limits by rate that it has passed."""
    signal = RateLimited(wait)
    signal.delay = max(signal.delay, LEAST_WAIT)
    return signal


def printable(excerpt: bytes) -> str:
    """Return the beginning of an answer in one line."""
    text = excerpt.decode(errors="replace")
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def result(url: str, status: int, body: bytes | None, most: int, *, is_typed: bool) -> Any:
    """Return the result of a job. *body*: None if it was no JSON, or more than *most* bytes.

    *is_typed*: the task says which JSON it answers. Raises UnusableAnswerError.
    """
    found: Any = None
    if body:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            body = None
    if not is_typed:
        return HttpAnswer(status=status, body=found)
    if not body:
        raise UnusableAnswerError(url, status, f"it is no JSON of at most {most:,} bytes")
    return found


def rule(theirs: RetryWhen | None) -> Callable[[int, BaseException, Any], Any]:
    """Return which errors are retried: what *theirs* says, or else those that may pass."""

    def retry_when(attempt: int, error: BaseException, job: Any) -> Any:
        said = None if theirs is None else theirs(attempt, error, job)
        if said is not None or not isinstance(error, HttpTargetError):
            return said
        if isinstance(error, HttpAnswerError):
            return error.status >= 500 or is_transient_status(error.status)
        return not isinstance(error, UnusableAnswerError)

    return retry_when
