"""When and whether a failed attempt is retried: `decision` decides, by the values in `policy`."""

from pgqueue.retry.decision import Answer, JobSoFar, after_error, ask, decide, decide_after
from pgqueue.retry.delays import asked_delay, read_delay
from pgqueue.retry.http import TRANSIENT_STATUSES, is_transient_status, transient_http
from pgqueue.retry.policy import Jitter, RetryPolicy, RetryWhen

__all__ = [
    "TRANSIENT_STATUSES",
    "Answer",
    "Jitter",
    "JobSoFar",
    "RetryPolicy",
    "RetryWhen",
    "after_error",
    "ask",
    "asked_delay",
    "decide",
    "decide_after",
    "is_transient_status",
    "read_delay",
    "transient_http",
]
