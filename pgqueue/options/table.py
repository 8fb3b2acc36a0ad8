"""The options, one row each. Everything else about them is made from this table.

That is: the check of values at every level, the policy of an attempt, the inputs of the HTTP API, and
docs/reference/options.md. To add an option, write its row here, its line in the TypedDict of its level
(`options.declared`, for type checkers, with the sentence about it), and the code that heeds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final

from pgqueue.model.checks import count, flag, positive_seconds, retry_limit, some_seconds
from pgqueue.model.webhooks import read_webhooks
from pgqueue.options import checks
from pgqueue.options.time_limits import DEFAULT_HARD, DEFAULT_SOFT


class Level(StrEnum):
    """Where options are set. The most specific level wins, in this order."""

    CALL = "call"
    RUN_TIME = "run time"
    """`configure_task`, while workers run."""
    TASK = "task"
    QUEUE = "queue"
    GLOBAL = "PgQueue"

    # Not in the order: these narrow what the others set.
    HTTP = "HTTP"
    """A call over HTTP."""
    ERROR = "retry_policies"
    """After certain errors."""


class Stored(Enum):
    """Where the database keeps what a call sets."""

    DOCUMENT = "in the job's options, as JSON"
    """Only what the call itself set: the other levels are looked up when an attempt starts, so a new limit
    applies to waiting jobs too."""
    COLUMN = "in a column of the job or of its key"
    """As all levels together have it at the enqueue."""
    NOWHERE = "nowhere: it is code"


@dataclass(frozen=True, slots=True)
class Option:
    """One option."""

    name: str
    check: Callable[[str, object], Any]
    """Returns the value as it is kept. Raises InvalidOptionError."""
    default: Any
    """What holds if no level sets it, as a caller would write it."""
    stored: Stored
    levels: frozenset[Level]
    """Where it can be set."""
    retry_field: str | None = None
    """The field of RetryPolicy that it becomes."""


_DECLARED: Final = frozenset({Level.TASK, Level.QUEUE, Level.GLOBAL})
_JOB: Final = _DECLARED | {Level.CALL}
_ATTEMPT: Final = _JOB | {Level.RUN_TIME, Level.HTTP}
_RETRY: Final = _ATTEMPT | {Level.ERROR}
_CALL: Final = frozenset({Level.CALL})


def _retry(name: str, check: Callable[[str, object], Any], default: Any, field: str) -> Option:
    return Option(name, check, default, Stored.DOCUMENT, _RETRY, field)


def _attempt(name: str, check: Callable[[str, object], Any], default: Any) -> Option:
    return Option(name, check, default, Stored.DOCUMENT, _ATTEMPT)


def _job(
    name: str, check: Callable[[str, object], Any], default: Any, levels: frozenset[Level] = _JOB
) -> Option:
    return Option(name, check, default, Stored.COLUMN, levels)


def _code(
    name: str, check: Callable[[str, object], Any], default: Any, retry_field: str | None = None
) -> Option:
    return Option(name, check, default, Stored.NOWHERE, _DECLARED, retry_field)


OPTIONS: Final[Mapping[str, Option]] = {
    option.name: option
    for option in (
        _job("queue", checks.queue, "default", _JOB - {Level.QUEUE} | {Level.HTTP}),
        _job("priority", checks.priority, 0, _JOB | {Level.HTTP}),
        _job("at_front", flag, default=False, levels=_CALL),
        _job("delay", checks.delay, None, _JOB | {Level.HTTP}),
        _job("run_at", checks.run_at, None, _CALL | {Level.HTTP}),
        _job("expires", checks.expires, None, _JOB | {Level.HTTP}),
        _job("tags", checks.tags, (), _JOB | {Level.HTTP}),
        _job("key", checks.key, None, _CALL | {Level.HTTP}),
        _job("headers", checks.headers, {}, _JOB | {Level.HTTP}),
        _job("webhooks", read_webhooks, ()),
        _job("id", checks.job_id, None, _CALL | {Level.HTTP}),
        _job("on_duplicate", checks.on_duplicate, "return", _CALL),
        _job("depends_on", checks.job_ids, (), _CALL),
        _job("allow_failure", flag, default=False, levels=_CALL),
        # Over HTTP, the header Idempotency-Key sets these.
        _job("idempotency_key", checks.idempotency_key, None),
        _job("idempotency_window", checks.seconds_or_none, 24 * 60 * 60.0),
        _job("idempotency_scope", checks.idempotency_scope, "task"),
        _job("idempotency_while", checks.idempotency_while, "window"),
        _job("on_conflict", checks.on_conflict, "return"),
        _job("idempotency_fingerprint", flag, default=True),
        _attempt("timeout", checks.seconds_or_none, DEFAULT_HARD),
        _attempt("soft_timeout", checks.seconds_or_none, DEFAULT_SOFT),
        _attempt("retry_on_timeout", flag, default=True),
        _retry("max_retries", retry_limit, 3, "max_retries"),
        _retry("max_retry_duration", checks.seconds_or_none, None, "max_duration"),
        _retry("retry_backoff", checks.retry_backoff, 1.0, "backoff"),
        _retry("retry_backoff_max", positive_seconds, 600.0, "backoff_max"),
        _retry("retry_jitter", checks.retry_jitter, "full", "jitter"),
        _retry("retry_delay_min", some_seconds, 0.0, "delay_min"),
        _retry("default_retry_delay", some_seconds, 60.0, "default_delay"),
        _retry("retry_intervals", checks.retry_intervals, None, "intervals"),
        _code("autoretry_for", checks.error_types, (Exception, asyncio.CancelledError), "autoretry_for"),
        _code("dont_autoretry_for", checks.error_types, (), "dont_autoretry_for"),
        _code("throws", checks.error_types, (), "throws"),
        _code("retry_when", checks.retry_when, None, "retry_when"),
        _code("retry_policies", checks.retry_policies, {}, "policies"),
        _attempt("max_losses", count, 3),
        _attempt("reject_on_worker_lost", flag, default=True),
        _attempt("acks_late", flag, default=True),
        _attempt("ignore_result", flag, default=False),
        _code("redact", checks.paths, ()),
        _code("log", checks.log_share, "all"),
        _code("log_tracebacks", checks.log_tracebacks, "failures"),
    )
}

AT: Final[Mapping[Level, Mapping[str, Option]]] = {
    level: {name: option for name, option in OPTIONS.items() if level in option.levels} for level in Level
}
"""The options that can be set at each level."""

RETRY_FIELDS: Final[Mapping[str, str]] = {
    name: option.retry_field for name, option in OPTIONS.items() if option.retry_field is not None
}
"""The fields of RetryPolicy, by option."""
