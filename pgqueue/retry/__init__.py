"""When and whether a failed attempt is tried again."""

from pgqueue.retry.delays import asked_delay, read_delay
from pgqueue.retry.http import TRANSIENT_STATUSES, is_transient_status, transient_http
from pgqueue.retry.policy import (
    Again,
    Answer,
    GiveUp,
    Jitter,
    RetryPolicy,
    RetryWhen,
    again_after,
    ask,
    decide,
)

__all__ = [
    "TRANSIENT_STATUSES",
    "Again",
    "Answer",
    "GiveUp",
    "Jitter",
    "RetryPolicy",
    "RetryWhen",
    "again_after",
    "ask",
    "asked_delay",
    "decide",
    "is_transient_status",
    "read_delay",
    "transient_http",
]
