"""The errors that code written for RQ catches. What pgqueue raises itself it raises here, too."""

from __future__ import annotations

from pgqueue import PgQueueError, SoftTimeLimitExceeded


class NoSuchJobError(PgQueueError):
    """There is no job with this id, or it was removed after its retention."""


class InvalidJobOperation(PgQueueError):  # noqa: N818  # RQ's name
    """The job is in a state in which this cannot be done."""


class DuplicateJobError(PgQueueError):
    """`unique=True`, and a job with this `job_id` exists that has not ended."""


class TimeoutFormatError(PgQueueError, ValueError):
    """A time is neither a number of seconds nor a string such as "90", "1h" or "23m"."""


JobTimeoutException = SoftTimeLimitExceeded
"""Raised in a job that runs for longer than its `job_timeout`."""
